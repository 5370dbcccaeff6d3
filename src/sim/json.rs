//! JSON text, written field by field in the order of the venue's documentation, and the venue's decimals: counts of
//! `10^-8` in and out as text with eight digits behind the point.

use std::fmt::Write as _;

use crate::clock::UtcNs;
use crate::trading::domain::decimal::parse_scaled;

/// Digits behind the point, everywhere.
pub const DECIMALS: u8 = 8;

/// Appends `units` of `10^-8` as decimal text with eight digits behind the point.
pub fn push_decimal(out: &mut String, units: i128) {
    if units < 0 {
        out.push('-');
    }
    let magnitude = units.unsigned_abs();
    if let Ok(small) = u64::try_from(magnitude) {
        let mut digits = itoa::Buffer::new();
        out.push_str(digits.format(small / 100_000_000));
        out.push('.');
        let part = digits.format(small % 100_000_000);
        out.push_str(&"00000000"[part.len()..]);
        out.push_str(part);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "{}.{:08}", magnitude / 100_000_000, magnitude % 100_000_000);
    }
}

/// `units` of `10^-8` as decimal text.
pub fn decimal(units: impl Into<i128>) -> String {
    let mut out = String::with_capacity(24);
    push_decimal(&mut out, units.into());
    out
}

/// Parses non-negative decimal text with at most eight digits behind the point; `None` when it is not that.
pub fn parse_decimal(text: &str) -> Option<i64> {
    parse_scaled(text.as_bytes(), DECIMALS).ok()
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// In which unit answers tell times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds since 1970, unless asked otherwise.
    #[default]
    Millisecond,
    /// Microseconds since 1970.
    Microsecond,
}

impl TimeUnit {
    /// The unit of this name, all in capitals or all small.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "MILLISECOND" | "millisecond" => Some(Self::Millisecond),
            "MICROSECOND" | "microsecond" => Some(Self::Microsecond),
            _ => None,
        }
    }

    /// A moment in this unit.
    pub fn of(self, utc: UtcNs) -> i64 {
        match self {
            Self::Millisecond => utc.as_millis(),
            Self::Microsecond => utc.as_micros(),
        }
    }

    /// How many of it make a millisecond.
    pub fn per_ms(self) -> i64 {
        match self {
            Self::Millisecond => 1,
            Self::Microsecond => 1_000,
        }
    }

    /// An object whose fields `body` writes, with its times in this unit.
    pub fn object(self, body: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::of(self);
        json.obj(body);
        json.finish()
    }

    /// An array whose items `body` writes, with its times in this unit.
    pub fn array(self, body: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::of(self);
        json.arr(body);
        json.finish()
    }
}

/// A JSON text in the making. Commas come by themselves.
#[derive(Clone, Debug, Default)]
pub struct Json {
    text: String,
    unit: TimeUnit,
}

impl Json {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::of(TimeUnit::Millisecond)
    }

    /// Nothing yet; times will be told in `unit`.
    pub fn of(unit: TimeUnit) -> Self {
        Self { text: String::with_capacity(256), unit }
    }

    /// In which unit times are told.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// An object whose fields `body` writes.
    pub fn object(body: impl FnOnce(&mut Self)) -> String {
        let mut json = Self::new();
        json.obj(body);
        json.text
    }

    /// An array whose items `body` writes.
    pub fn array(body: impl FnOnce(&mut Self)) -> String {
        let mut json = Self::new();
        json.arr(body);
        json.text
    }

    fn comma(&mut self) {
        if !matches!(self.text.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.text.push(',');
        }
    }

    /// A field's name; its value must follow.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.comma();
        push_string(&mut self.text, name);
        self.text.push(':');
        self
    }

    /// An object as a value.
    pub fn obj(&mut self, body: impl FnOnce(&mut Self)) -> &mut Self {
        self.comma();
        self.text.push('{');
        body(self);
        self.text.push('}');
        self
    }

    /// An array as a value.
    pub fn arr(&mut self, body: impl FnOnce(&mut Self)) -> &mut Self {
        self.comma();
        self.text.push('[');
        body(self);
        self.text.push(']');
        self
    }

    /// JSON text as a value, as it is.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.comma();
        self.text.push_str(text);
        self
    }

    /// A string as a value.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.comma();
        push_string(&mut self.text, text);
        self
    }

    /// A decimal string as a value.
    pub fn dec(&mut self, units: impl Into<i128>) -> &mut Self {
        self.comma();
        self.text.push('"');
        push_decimal(&mut self.text, units.into());
        self.text.push('"');
        self
    }

    /// An integer as a value.
    pub fn int(&mut self, value: impl itoa::Integer) -> &mut Self {
        self.comma();
        self.text.push_str(itoa::Buffer::new().format(value));
        self
    }

    /// A truth value.
    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// A string field.
    pub fn f_text(&mut self, name: &str, text: &str) -> &mut Self {
        self.key(name).text(text)
    }

    /// A decimal string field.
    pub fn f_dec(&mut self, name: &str, units: impl Into<i128>) -> &mut Self {
        self.key(name).dec(units)
    }

    /// An integer field.
    pub fn f_int(&mut self, name: &str, value: impl itoa::Integer) -> &mut Self {
        self.key(name).int(value)
    }

    /// A field with a moment, in the unit of the text.
    pub fn f_time(&mut self, name: &str, utc: UtcNs) -> &mut Self {
        let time = self.unit.of(utc);
        self.f_int(name, time)
    }

    /// A truth field.
    pub fn f_flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.key(name).flag(value)
    }

    /// A field with JSON text as its value.
    pub fn f_raw(&mut self, name: &str, text: &str) -> &mut Self {
        self.key(name).raw(text)
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: i128, text: &str) {
        assert_eq!(decimal(units), text);
    }

    #[test]
    fn decimals() {
        check(0, "0.00000000");
        check(1, "0.00000001");
        check(6_000_012_000_000, "60000.12000000");
        check(-150_000_000, "-1.50000000");
        check(100_000_000_000_000_000_000_000, "1000000000000000.00000000");
        assert_eq!(parse_decimal("60000.12"), Some(6_000_012_000_000));
        assert_eq!(parse_decimal("0.000000001"), None);
    }

    #[test]
    fn commas_and_escapes() {
        let text = Json::object(|j| {
            j.f_text("a", "x\"\\\u{1}").f_int("n", -1);
            j.key("l").arr(|j| {
                j.arr(|j| {
                    j.dec(1_i64).dec(2_i64);
                });
                j.obj(|_| ());
            });
        });
        assert_eq!(text, r#"{"a":"x\"\\\u0001","n":-1,"l":[["0.00000001","0.00000002"],{}]}"#);
    }
}

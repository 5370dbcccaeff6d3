//! Moments in microseconds. In: JSON of an answer or an event, with moments in milliseconds. Out: the same with three
//! more digits on each; what is told in microseconds already stays.

/// Numbers of clients that are as long as moments and are none.
const NO_MOMENTS: [&str; 2] = ["strategyId", "j"];

/// An answer or account event with its moments in microseconds in place of milliseconds. Every bare integer of thirteen
/// digits is a moment: nothing else that the venue counts is so large.
pub(super) fn in_micros(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 64);
    let (mut rest, mut key) = (json, "");
    while let Some(at) = rest.find(|c: char| c == '"' || c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = if from.starts_with('"') {
            let end = string_end(from);
            key = from[..end].trim_matches('"');
            end
        } else {
            from.find(|c: char| !matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'))
                .unwrap_or(from.len())
        };
        let (item, after) = from.split_at(end);
        out.push_str(item);
        let moment = item.len() == 13 && item.bytes().all(|b| b.is_ascii_digit());
        if moment && !NO_MOMENTS.contains(&key) {
            out.push_str("000");
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where the string ends with which `json` begins.
fn string_end(json: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_microseconds() {
        let check = |ms: &str, us: &str| assert_eq!(in_micros(ms), us);
        check(r#"{"time":1700000000000,"id":7}"#, r#"{"time":1700000000000000,"id":7}"#);
        check(
            r#"[[1700000000000,"1700000000000.0",-1],[17000000000000]]"#,
            r#"[[1700000000000000,"1700000000000.0",-1],[17000000000000]]"#,
        );
        let kept =
            r#"{"a\"1700000000000":"1700000000000","strategyId":1700000000000,"j":1700000000000}"#;
        check(kept, kept);
        check("", "");
    }
}

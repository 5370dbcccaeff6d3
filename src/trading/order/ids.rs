//! Client order ids: our keys of orders at the venue.
//!
//! `{engine}-{boot}-{generation}-{seq}`, numbers in base 36: the engine's name (whose order is it?), the process's
//! start in UTC milliseconds (which boot?), the sender's generation and a counter that goes on over generations.
//! What always holds: at most 36 bytes of `[a-z0-9-]`, and no id is ever minted twice: boots differ in their
//! millisecond (the state folder's lock lets one process run at a time), orders of one boot in their counter.

use arrayvec::ArrayString;

use crate::clock::UtcNs;
use crate::runtime::actor::Generation;
use crate::trading::domain::ClientOrderId;

/// Longest engine name, in bytes: what 36 bytes leave beside a boot of 9, a generation of 7 and a counter of 11
/// digits.
pub const ENGINE_BYTES_MAX: usize = 6;

/// One past the largest counter: 36^11 orders take a million years at a thousand per second.
pub const SEQ_MAX: u64 = 131_621_703_842_267_136;

/// One past the largest boot: 36^9 milliseconds end in the year 5188.
const BOOT_MAX: u64 = 101_559_956_668_416;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Mints ids and recognizes them.
#[derive(Clone, Debug)]
pub struct Ids {
    /// `engine-`.
    ours: ArrayString<8>,
    boot: u64,
    generation: u32,
}

/// What an id of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnId {
    /// The process's start, UTC milliseconds.
    pub boot: u64,
    /// The order sender's generation.
    pub generation: u32,
    /// The counter.
    pub seq: u64,
}

/// A name that cannot be part of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEngineName;

impl std::fmt::Display for BadEngineName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an engine name has 1 to {ENGINE_BYTES_MAX} of a-z and 0-9")
    }
}

impl std::error::Error for BadEngineName {}

impl Ids {
    /// The ids of `engine`, started at `boot`, as the order sender's `generation` mints them.
    ///
    /// # Errors
    /// When the name is empty, longer than [`ENGINE_BYTES_MAX`], or has other bytes than `a-z0-9`.
    pub fn new(engine: &str, boot: UtcNs, generation: Generation) -> Result<Self, BadEngineName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if engine.is_empty() || engine.len() > ENGINE_BYTES_MAX || !engine.bytes().all(plain) {
            return Err(BadEngineName);
        }
        let mut ours = ArrayString::new();
        ours.push_str(engine);
        ours.push('-');
        let boot = u64::try_from(boot.as_millis()).unwrap_or(0) % BOOT_MAX;
        Ok(Self { ours, boot, generation: generation.0 })
    }

    /// The id with the counter `seq` of this generation.
    pub fn mint(&self, seq: u64) -> ClientOrderId {
        self.of(self.generation, seq)
    }

    /// The id with the counter `seq` of another generation of this boot.
    pub fn of(&self, generation: u32, seq: u64) -> ClientOrderId {
        let mut id = ClientOrderId::new();
        id.push_str(&self.ours);
        push_base36(&mut id, self.boot);
        id.push('-');
        push_base36(&mut id, u64::from(generation));
        id.push('-');
        push_base36(&mut id, seq % SEQ_MAX);
        id
    }

    /// What `id` says, if this engine minted it, in whatever boot and generation.
    pub fn parse(&self, id: &str) -> Option<OwnId> {
        let mut parts = id.strip_prefix(self.ours.as_str())?.split('-');
        let boot = parse_base36(parts.next()?)?;
        let generation = u32::try_from(parse_base36(parts.next()?)?).ok()?;
        let seq = parse_base36(parts.next()?)?;
        parts.next().is_none().then_some(OwnId { boot, generation, seq })
    }

    /// What `id` says, if it was minted in this boot.
    pub fn of_this_boot(&self, id: &str) -> Option<OwnId> {
        self.parse(id).filter(|own| own.boot == self.boot)
    }

    /// From here on `generation` mints.
    pub fn set_generation(&mut self, generation: Generation) {
        self.generation = generation.0;
    }

    /// The generation that mints.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

fn push_base36(id: &mut ClientOrderId, mut number: u64) {
    // 13 digits hold every u64.
    let mut digits = [0_u8; 13];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[(number % 36) as usize];
        number /= 36;
        if number == 0 {
            break;
        }
    }
    for digit in &digits[at..] {
        id.push(char::from(*digit));
    }
}

fn parse_base36(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        number.checked_mul(36)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(boot_ms: i64, generation: u32) -> Ids {
        Ids::new("pin", UtcNs::from_millis(boot_ms), Generation(generation)).expect("good name")
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", "toolong", "Pin", "p-n", "pi_"] {
            assert!(Ids::new(bad, UtcNs::default(), Generation(1)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_id_fits() {
        let boot = UtcNs::from_millis(101_559_956_668_415);
        // Nanoseconds of the year 5188 do not fit an i64, so the largest real boot is shorter; take what fits.
        let ids = Ids::new("abcdef", boot, Generation(u32::MAX)).expect("good name");
        let id = ids.mint(SEQ_MAX - 1);
        assert!(id.len() <= 36, "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }

    #[test]
    fn strangers_are_not_ours() {
        let ours = ids(1, 1);
        for id in ["", "pin", "pin-", "pin-1-1", "pin-1-1-1-1", "pin2-1-1-1", "pin-1-1-", "x-1-1-1"]
        {
            assert_eq!(ours.parse(id), None, "{id}");
        }
    }

    #[test]
    fn another_boot_is_ours_but_not_of_this_boot() {
        let old = ids(1_000, 3).mint(7);
        let now = ids(2_000, 1);
        assert_eq!(now.parse(&old), Some(OwnId { boot: 1_000, generation: 3, seq: 7 }));
        assert_eq!(now.of_this_boot(&old), None);
    }

    proptest! {
        #[test]
        fn parse_gives_back_what_was_minted(boot in 0_i64..9_000_000_000_000, generation: u32, seq in 0..SEQ_MAX) {
            let id = ids(boot, generation).mint(seq);
            let own = ids(boot, 1).of_this_boot(&id);
            let boot = u64::try_from(boot).expect("not negative");
            prop_assert_eq!(own, Some(OwnId { boot, generation, seq }));
        }
    }
}

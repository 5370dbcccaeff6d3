//! Little-endian numbers and short texts: values in, bytes out, and back. Reading past the end is an error.

use arrayvec::ArrayString;

use super::record::RecordError;

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_i128(out: &mut Vec<u8>, value: i128) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a short text: its length in one byte, then its bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).expect("names and ids are shorter than 256 bytes");
    out.push(len);
    out.extend_from_slice(text.as_bytes());
}

/// Takes numbers and texts off the front of some bytes.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl Cursor<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RecordError::BadPayload("end"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn bool(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::BadPayload("flag")),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn i128(&mut self) -> Result<i128, RecordError> {
        self.array().map(i128::from_le_bytes)
    }

    pub(super) fn text<const N: usize>(&mut self) -> Result<ArrayString<N>, RecordError> {
        let len = usize::from(self.u8()?);
        let (text, rest) = self.rest.split_at_checked(len).ok_or(RecordError::BadPayload("end"))?;
        self.rest = rest;
        let text = std::str::from_utf8(text).map_err(|_| RecordError::BadPayload("text"))?;
        ArrayString::from(text).map_err(|_| RecordError::BadPayload("text length"))
    }
}

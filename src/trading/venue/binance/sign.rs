//! Signatures of private requests. Comes in: the payload as the venue will rebuild it. Goes out: its signature as
//! text. Always: secrets are wiped when dropped, and neither they nor anything made of them is ever printed.
//!
//! Rules: web-socket-api.md and rest-api.md, "SIGNED request security".

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac, signature::Ed25519KeyPair};
use zeroize::Zeroizing;

/// Base64 of the 64 bytes of an Ed25519 signature.
const ED25519_TEXT_BYTES: usize = 88;

/// An API key with what proves that it is ours.
#[derive(Clone)]
pub enum Credentials {
    /// A shared secret.
    Hmac {
        /// The API key.
        key: Zeroizing<String>,
        /// The secret.
        secret: Zeroizing<String>,
    },
    /// A private key of our own; the only kind with which a WebSocket API session can log on.
    Ed25519 {
        /// The API key.
        key: Zeroizing<String>,
        /// The private key: PKCS#8 in PEM armour, unencrypted.
        pkcs8: Zeroizing<String>,
    },
}

impl Credentials {
    /// A key with a shared secret; white space around both is dropped, as files end with a newline.
    pub fn hmac(key: &str, secret: &str) -> Self {
        Self::Hmac { key: trimmed(key), secret: trimmed(secret) }
    }

    /// A key with an Ed25519 private key in PEM armour.
    pub fn ed25519(key: &str, pkcs8: &str) -> Self {
        Self::Ed25519 { key: trimmed(key), pkcs8: trimmed(pkcs8) }
    }
}

fn trimmed(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.trim().to_owned())
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac { .. } => "Credentials::Hmac(hidden)",
            Self::Ed25519 { .. } => "Credentials::Ed25519(hidden)",
        })
    }
}

/// Why credentials cannot sign. Never quotes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The API key is empty or has bytes that no API key has.
    ApiKey,
    /// The shared secret is empty.
    EmptySecret,
    /// The private key lacks its `-----BEGIN PRIVATE KEY-----` armour (an encrypted one does, too).
    Armour,
    /// What is in the armour is no base64.
    Base64,
    /// What is in the base64 is no Ed25519 key.
    Ed25519,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey => "the API key is empty, or has bytes that no API key has",
            Self::EmptySecret => "the API secret is empty",
            Self::Armour => "the private key is not an unencrypted PEM of type PRIVATE KEY",
            Self::Base64 => "the private key's PEM is not base64",
            Self::Ed25519 => "the private key is not an Ed25519 key in PKCS#8",
        })
    }
}

impl std::error::Error for SignError {}

/// Signs payloads; made once per session, because preparing a key costs more than a signature.
pub struct Signer {
    api_key: Zeroizing<String>,
    key: Key,
}

enum Key {
    Hmac(hmac::Key),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(hidden)")
    }
}

impl Signer {
    /// Prepares the key.
    ///
    /// # Errors
    /// When the credentials cannot sign: see [`SignError`].
    pub fn new(credentials: &Credentials) -> Result<Self, SignError> {
        let (api_key, key) = match credentials {
            Credentials::Hmac { key, secret } => {
                if secret.is_empty() {
                    return Err(SignError::EmptySecret);
                }
                (key, Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
            }
            Credentials::Ed25519 { key, pkcs8 } => {
                let der = unarmoured(pkcs8)?;
                // Keys made by OpenSSL carry no public half, which the stricter reader demands.
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
                    .map_err(|_| SignError::Ed25519)?;
                (key, Key::Ed25519(pair))
            }
        };
        // The key goes into headers and JSON as it is.
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\' && b != b'&';
        if api_key.is_empty() || !api_key.bytes().all(plain) {
            return Err(SignError::ApiKey);
        }
        Ok(Self { api_key: api_key.clone(), key })
    }

    /// The API key that goes with the signatures.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// Whether a WebSocket API session can log on with this key (docs: Ed25519 only).
    pub fn can_log_on(&self) -> bool {
        matches!(self.key, Key::Ed25519(_))
    }

    /// Appends the signature of `payload` to `out`: lower-case hex for HMAC-SHA256, base64 for Ed25519.
    pub fn sign(&self, payload: &[u8], out: &mut Vec<u8>) {
        match &self.key {
            Key::Hmac(key) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                for byte in hmac::sign(key, payload).as_ref() {
                    out.push(HEX[usize::from(byte >> 4)]);
                    out.push(HEX[usize::from(byte & 15)]);
                }
            }
            Key::Ed25519(pair) => {
                let mut text = [0; ED25519_TEXT_BYTES];
                let written = STANDARD
                    .encode_slice(pair.sign(payload).as_ref(), &mut text)
                    .expect("an Ed25519 signature has 64 bytes, which fit");
                out.extend_from_slice(&text[..written]);
            }
        }
    }
}

fn unarmoured(pem: &str) -> Result<Zeroizing<Vec<u8>>, SignError> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----").ok_or(SignError::Armour)?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----").ok_or(SignError::Armour)?;
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    text.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| SignError::Base64)
}

/// Appends `text` percent-encoded after RFC 3986, as REST payloads are before they are signed.
pub(super) fn percent_encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

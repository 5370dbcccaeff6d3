//! Keys and signatures, the verifying side. In: an account's secret, the payload as sent, the signature as sent. Out:
//! whether they belong together. HMAC hex is compared in constant time and in any letter case.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac, signature};

use super::settings::Secret;

/// A key that verifies signatures. Shows nothing of itself.
pub enum Verifier {
    /// HMAC-SHA256 with a shared secret; the signature is hex.
    Hmac(hmac::Key),
    /// Ed25519; the signature is base64.
    Ed25519(Vec<u8>),
    /// RSASSA-PKCS1-v1_5 with SHA-256; the signature is base64.
    Rsa(Vec<u8>),
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "Hmac",
            Self::Ed25519(_) => "Ed25519",
            Self::Rsa(_) => "Rsa",
        })
    }
}

/// Bytes of a bare Ed25519 public key; in a SubjectPublicKeyInfo they come last.
const ED25519_KEY_BYTES: usize = 32;

/// What says in a SubjectPublicKeyInfo that an RSA key follows: the algorithm and its empty parameters (RFC 3279, 2.3.1).
const RSA_ALGORITHM: [u8; 13] =
    [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The bytes of a PEM, or of bare base64.
fn der(pem: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.flat_map(|line| line.trim().chars()).collect::<String>())
}

/// The RSA key in a SubjectPublicKeyInfo: what the bit string after the algorithm holds.
fn rsa_key(der: &[u8]) -> Option<&[u8]> {
    let at = der.windows(RSA_ALGORITHM.len()).position(|bytes| bytes == RSA_ALGORITHM)?;
    match der.get(at + RSA_ALGORITHM.len()..)? {
        [0x03, 0x82, _, _, 0x00, key @ ..] => Some(key),
        _ => None,
    }
}

impl Verifier {
    /// The verifier of an account's secret.
    ///
    /// # Errors
    /// When a public key is not one.
    pub fn new(secret: &Secret) -> Result<Self, String> {
        match secret {
            Secret::Hmac(secret) => {
                Ok(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
            }
            Secret::Ed25519Public(pem) => {
                let der = der(pem).map_err(|e| format!("Ed25519 public key: {e}"))?;
                let cut =
                    der.len().checked_sub(ED25519_KEY_BYTES).filter(|cut| matches!(cut, 0 | 12));
                let key = cut.and_then(|cut| der.get(cut..));
                let key = key.ok_or("Ed25519 public key: not 32 bytes, nor a PEM of one")?;
                Ok(Self::Ed25519(key.to_vec()))
            }
            Secret::RsaPublic(pem) => {
                let der = der(pem).map_err(|e| format!("RSA public key: {e}"))?;
                let key = rsa_key(&der).ok_or("RSA public key: not a PEM of one")?;
                Ok(Self::Rsa(key.to_vec()))
            }
        }
    }

    /// What kind of key it is, in the venue's words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hmac(_) => "HMAC_SHA256",
            Self::Ed25519(_) => "ED25519",
            Self::Rsa(_) => "RSA",
        }
    }

    /// Whether `signature` is this key's signature of `payload`.
    pub fn verify(&self, payload: &[u8], signature: &str) -> bool {
        match self {
            Self::Hmac(key) => match unhex(signature) {
                Some(tag) => hmac::verify(key, payload, &tag).is_ok(),
                None => false,
            },
            Self::Ed25519(key) => verify_public(&signature::ED25519, key, payload, signature),
            Self::Rsa(key) => {
                verify_public(&signature::RSA_PKCS1_2048_8192_SHA256, key, payload, signature)
            }
        }
    }
}

fn verify_public(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    payload: &[u8],
    signed: &str,
) -> bool {
    let public = signature::UnparsedPublicKey::new(algorithm, key);
    STANDARD.decode(signed).is_ok_and(|bytes| public.verify(payload, &bytes).is_ok())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).unwrap_or(0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::KeyPair as _;

    // The published example of the venue's REST documentation.
    const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
    const PAYLOAD: &str = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1\
                           &recvWindow=5000&timestamp=1499827319559";
    const SIGNATURE: &str = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71";

    #[track_caller]
    fn check(payload: &str, signature: &str, expect: bool) {
        let key = Verifier::new(&Secret::Hmac(SECRET.to_owned())).expect("any text is a secret");
        assert_eq!(key.verify(payload.as_bytes(), signature), expect);
    }

    #[test]
    fn hmac_vector() {
        check(PAYLOAD, SIGNATURE, true);
        check(PAYLOAD, &SIGNATURE.to_uppercase(), true);
        check("symbol=LTCBTC", SIGNATURE, false);
        check(PAYLOAD, "zz", false);
        check(PAYLOAD, "", false);
    }

    #[test]
    fn ed25519_signs_and_verifies() {
        let pair = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
        let public = pair.public_key().as_ref();
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let der: Vec<u8> = prefix.iter().chain(public).copied().collect();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        let key = Verifier::new(&Secret::Ed25519Public(pem)).expect("a key");
        let signed = STANDARD.encode(pair.sign(b"payload"));
        assert!(key.verify(b"payload", &signed));
        assert!(!key.verify(b"payloae", &signed));
        assert!(Verifier::new(&Secret::Ed25519Public("AAAA".to_owned())).is_err());
    }

    // Made with openssl; bare base64, as a PEM has between its marks.
    const RSA_PUBLIC: &str = "\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAt/FZsfJ7RjEfF9UJhuS56X2EYIXlv+ok7sliaJu1PgYe\
        ruaB7ZnGEWyAb0FWO3HObH1oEs3scFmkxL6u96aRnfQAgGvImeUpVNjZI2QRN0/fC3LtkhRklLInE/Y9JxXTILTa\
        2vCQNMmvTBV9rhAiZCzG/uDm6PUvw4mib9uGYWFjWNzplC6i4zsADHSb8CKeGbGhaEKRGm6yIVTvTteRxGkUG+Tz\
        DQBMeUoqIV4YM7ByXNcUA4kuzw7Z3T3FGW8r9wVffRePoCvvNKF6zBYQXgXp59WvrymIGUIrCoepTNY2+85w0j51\
        TGioZnFdObddZPPUD3x46DhYKblwyBoIwwIDAQAB";
    const RSA_SIGNATURE: &str = "\
        Tqr+PfzBtW9WZ6FlR16els6sLSCoEQ1hGCnjTILYCMX6bvZJ4YqG7hyE3kCTpLopFFapNUF1awIsX+UrrjSPs7mw\
        W8nQs10tRYHlU3mYANy6yy8WRDrP0fW89lN8hAJTWteqpFmklOvYqyNm0tlg2T3wX43+p8ta8JqMwcWTKnjcAv5S\
        QY6GgEOjOWKpHSQS/zm0MTNfNobJXGU86XAIHLaoXgXJe/zQiH9gd36pNXeZ+YkLXboEPv4H4sOlu1VsZonH1GQE\
        JMUBrU7uZYLwK08OK7RcJUYhQjf49F7Klauio1mCIi7Qpi4ez87n15E3Cu0mykuj0YGVMfu80FLP3w==";

    #[test]
    fn rsa_verifies() {
        let key = Verifier::new(&Secret::RsaPublic(RSA_PUBLIC.to_owned())).expect("a key");
        assert!(key.verify(b"payload", RSA_SIGNATURE));
        assert!(!key.verify(b"payloae", RSA_SIGNATURE) && !key.verify(b"payload", "AAAA"));
        assert_eq!(key.kind(), "RSA");
        assert!(Verifier::new(&Secret::RsaPublic("AAAA".to_owned())).is_err());
    }
}

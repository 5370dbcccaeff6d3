//! Signatures against published vectors: recorded ones in `../shared/data/signatures`, and the ones of the venue's
//! documentation. Signing is exact or useless, so that every byte counts.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pindrop::clock::UtcNs;
use pindrop::trading::venue::binance::sign::Signer;
use pindrop::trading::venue::binance::{BinanceRest, Credentials, SignError};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::Value;

use crate::decode::data;

/// The documentation's example key and secret (rest-api.md).
const KEY: &str = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A";
const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";

/// The documentation's example private key (fix-api.md, "How to sign a Logon request").
const BODY: &str = "MC4CAQAwBQYDK2VwBCIEIIJEYWtGBrhACmb9Dvy+qa8WEf0lQOl1s4CLIAB9m89u";

fn pem(body: &str) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

fn signature(credentials: &Credentials, payload: &str) -> String {
    let mut out = Vec::new();
    Signer::new(credentials).expect("valid").sign(payload.as_bytes(), &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn recorded_hmac_vectors() {
    let Some(path) = data("signatures/vectors.json") else { return };
    let all: Value =
        serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("valid JSON");
    let mut checked = 0;
    for vector in all["vectors"].as_array().expect("a list") {
        let text = |key: &str| vector[key].as_str().unwrap_or_default();
        if text("alg") == "hmac-sha256-hex" {
            let credentials = Credentials::hmac("key", text("secret"));
            assert_eq!(
                signature(&credentials, text("payload")),
                text("signature"),
                "{}",
                text("name")
            );
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} vectors");
}

#[test]
fn the_documents_hmac_vector_of_encoded_text() {
    let payload = "symbol=%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96&side=BUY&type=LIMIT\
        &timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559";
    assert_eq!(
        signature(&Credentials::hmac(KEY, SECRET), payload),
        "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3"
    );
}

#[test]
fn the_documents_ed25519_logon() {
    let payload = ["A", "EXAMPLE", "SPOT", "1", "20240627-11:17:25.223"].join("\u{1}");
    assert_eq!(
        signature(&Credentials::ed25519("key", &pem(BODY)), &payload),
        "4MHXelVVcpkdwuLbl6n73HQUXUf1dse2PCgT1DYqW9w8AVZ1RACFGM+5UdlGPrQHrgtS3CvsRURC1oj73j8gCA=="
    );
}

#[test]
fn ed25519_verifies_with_keys_of_either_version() {
    // Version 2 carries the public half, as ring makes it.
    let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("random");
    for der in [made.as_ref().to_vec(), STANDARD.decode(BODY).expect("base64")] {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("a key");
        let credentials = Credentials::ed25519("key", &pem(&STANDARD.encode(&der)));
        let signed = STANDARD.decode(signature(&credentials, "payload")).expect("base64");
        let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
        assert!(public.verify(b"payload", &signed).is_ok());
        assert!(public.verify(b"payloae", &signed).is_err());
    }
}

#[track_caller]
fn check_refused(credentials: &Credentials, expect: SignError) {
    assert_eq!(Signer::new(credentials).err(), Some(expect));
}

#[test]
fn bad_credentials_are_named_not_quoted() {
    check_refused(&Credentials::hmac(" ", SECRET), SignError::ApiKey);
    check_refused(&Credentials::hmac("a\"b", SECRET), SignError::ApiKey);
    check_refused(&Credentials::hmac("a\nb", SECRET), SignError::ApiKey);
    check_refused(&Credentials::hmac(KEY, "\n"), SignError::EmptySecret);
    check_refused(&Credentials::ed25519(KEY, BODY), SignError::Armour);
    let encrypted = pem(BODY).replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    check_refused(&Credentials::ed25519(KEY, &encrypted), SignError::Armour);
    check_refused(&Credentials::ed25519(KEY, &pem("!")), SignError::Base64);
    check_refused(&Credentials::ed25519(KEY, &pem("AAAA")), SignError::Ed25519);
}

#[test]
fn rest_calls_are_encoded_then_signed() {
    let utc = UtcNs::from_millis(1_499_827_319_559);
    let window = Duration::from_secs(5);
    let rest = BinanceRest::new(&Credentials::hmac(KEY, SECRET), &[], window).expect("valid");
    let request = rest.cancel_all("１BTC", utc);
    let query = "symbol=%EF%BC%91BTC&recvWindow=5000&timestamp=1499827319559";
    let signed = signature(&Credentials::hmac(KEY, SECRET), query);
    assert_eq!(request.method, "DELETE");
    assert_eq!(request.target, format!("/api/v3/openOrders?{query}&signature={signed}"));
    assert_eq!(request.headers, [("X-MBX-APIKEY".to_owned(), KEY.to_owned())]);
    assert_eq!(format!("{request:?}"), "RestRequest(DELETE /api/v3/openOrders)");
    assert!(rest.account(utc).target.starts_with("/api/v3/account?omitZeroBalances=true&"));
    let rest =
        BinanceRest::new(&Credentials::ed25519(KEY, &pem(BODY)), &[], window).expect("valid");
    let target = rest.open_orders("BTCUSDT", utc).target;
    let (_, signature) = target.split_once("&signature=").expect("signed");
    assert!(!signature.contains(['+', '/', '=']), "{signature}");
}

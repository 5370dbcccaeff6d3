//! Every file in `config/` means something, and the complete one names every key.

use std::path::PathBuf;

use pindrop::config::tree::Tree;
use pindrop::config::{Config, Mode};

use super::process::Process;

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config");
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|e| e.expect("readable").path()).collect();
    files.sort();
    files
}

#[test]
fn every_file_reads_without_an_error() {
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("text");
        let tree = Tree::parse(&file.display().to_string(), &text).expect("TOML");
        let config = Config::read(&tree, None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.mode, Mode::Testnet, "{}", file.display());
    }
}

#[test]
fn check_prints_what_is_meant_and_hides_where_the_secret_is() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "mode = \"live\"\n[ops]\nlisten = \"nowhere\"\n").expect("written");
    let (code, answer) = Process::answer(&["check", "--json", &path.display().to_string()]);
    assert_eq!(code, 78);
    let errors = answer["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 3, "{answer}");
    let (code, answer) = Process::answer(&["check", "--json"]);
    assert_eq!(code, 0, "{answer}");
    assert_eq!(answer["config"]["venue"]["binance"]["symbols"][0], "BTCUSDT");
    assert_eq!(answer["config"]["venue"]["binance"]["api_secret_file"], serde_json::Value::Null);
}

//! The house rules that a compiler does not hold: who may import whom, what may be in the tree of dependencies,
//! how a file begins and how long it may grow. Reads files only, links nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a path prefix under `src/`, and the prefixes below `crate::` that it may name. The first
/// matching row decides. What is not listed is forbidden.
const FLOORS: &[(&str, &[&str])] = &[
    ("clock.rs", &[]),
    ("sync.rs", &[]),
    ("runtime/", &["clock", "sync", "runtime"]),
    ("net/", &["clock", "net"]),
    ("trading/domain/", &["clock", "sync", "trading::domain"]),
    ("trading/limits.rs", &["trading::domain"]),
    ("trading/telemetry.rs", &["clock", "trading::domain", "trading::venue", "runtime::view"]),
    (
        "trading/venue/",
        &[
            "clock",
            "trading::domain",
            "trading::limits",
            "trading::telemetry",
            "trading::venue",
            "trading::risk::gate",
        ],
    ),
    ("trading/risk/", &["clock", "sync", "trading::domain", "trading::limits", "trading::risk"]),
    (
        "trading/feed/",
        &[
            "clock",
            "runtime",
            "net",
            "trading::domain",
            "trading::limits",
            "trading::telemetry",
            "trading::venue",
            "trading::feed",
        ],
    ),
    (
        "trading/book/",
        &[
            "clock",
            "runtime",
            "trading::domain",
            "trading::limits",
            "trading::telemetry",
            "trading::book",
        ],
    ),
    (
        "trading/strategy/",
        &[
            "clock",
            "runtime",
            "trading::domain",
            "trading::limits",
            "trading::telemetry",
            "trading::strategy",
        ],
    ),
    (
        "trading/order/",
        &[
            "clock",
            "runtime",
            "net",
            "trading::domain",
            "trading::limits",
            "trading::telemetry",
            "trading::venue",
            "trading::risk",
            "trading::order",
        ],
    ),
    (
        "trading/journal/",
        &[
            "clock",
            "runtime",
            "trading::domain",
            "trading::limits",
            "trading::telemetry",
            "trading::journal",
        ],
    ),
    ("trading/mod.rs", &[]),
    (
        "ops/",
        &[
            "clock",
            "runtime",
            "net",
            "trading::domain",
            "trading::telemetry",
            "trading::venue::Balance",
            "ops",
        ],
    ),
    // The venue shares no code with book, order, risk and strategy, so that the two can disagree.
    ("sim/", &["clock", "runtime", "net", "trading::domain", "sim"]),
    ("config.rs", &["config", "trading::domain", "trading::risk::limits", "trading::strategy"]),
    (
        "config/tables.rs",
        &["config", "trading::domain", "trading::risk::limits", "trading::strategy"],
    ),
    ("config/", &["config"]),
    // The top floor: where everything meets.
    ("topology.rs", &[""]),
    ("topology/", &[""]),
    ("cli/", &[""]),
    ("main.rs", &[""]),
    ("lib.rs", &[""]),
];

/// Crates that must not be anywhere in the tree, tests included: async runtimes and what drags them in.
const BANNED_CRATES: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "async-io",
    "hyper",
    "reqwest",
    "actix-rt",
    "glommio",
    "openssl-sys",
    "native-tls",
];

/// Most lines of a source file before its tests.
const FILE_LINES_MAX: usize = 650;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|e| e.expect("a readable folder").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let name = |p: &Path| p.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
    let production = |p: &&PathBuf| !p.to_string_lossy().ends_with("_tests.rs");
    files.iter().filter(production).map(|p| (name(p), read(p))).collect()
}

/// The part of a file before its tests.
fn production(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

/// Every `crate::path` and `super::path` that the code of a file names, as a path from the crate's root.
fn imports(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in production(text).lines() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for (at, _) in code.match_indices("crate::") {
            found.extend(paths_after(&code[at + "crate::".len()..]));
        }
        if let Some(rest) = code.strip_prefix("use super::") {
            let up = rest.matches("super::").count() + 1;
            found.extend(
                paths_after(rest.trim_start_matches("super::"))
                    .into_iter()
                    .map(|p| above(file, up, &p)),
            );
        }
    }
    found
}

/// The path, or the paths of a `{...}` group on the same line.
fn paths_after(text: &str) -> Vec<String> {
    let word = |t: &str| -> String {
        t.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect()
    };
    match text.split_once('{') {
        Some((prefix, group)) if word(prefix) == prefix => group
            .split(['}', ','])
            .filter(|t| !t.trim().is_empty() && !t.contains(';'))
            .map(|t| format!("{prefix}{}", word(t.trim())))
            .collect(),
        _ => vec![word(text)],
    }
}

/// `path` as seen from `up` modules above the file.
fn above(file: &str, up: usize, path: &str) -> String {
    let mut module: Vec<&str> =
        file.trim_end_matches(".rs").split('/').filter(|p| *p != "mod").collect();
    module.truncate(module.len().saturating_sub(up));
    module.push(path);
    module.join("::")
}

#[test]
fn floors_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some((_, allowed)) = FLOORS.iter().find(|(prefix, _)| file.starts_with(prefix)) else {
            wrong.push(format!("src/{file}: no row in FLOORS; decide its floor"));
            continue;
        };
        for import in imports(&file, &text) {
            let ok = allowed.iter().any(|a| {
                a.is_empty()
                    || import == *a
                    || import.starts_with(&format!("{a}::"))
                    || a.starts_with(&format!("{import}::"))
            });
            if !ok {
                wrong.push(format!("src/{file}: must not import {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_begin_with_what_they_are_and_stay_short() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//!") && !text.starts_with("#![doc") {
            wrong.push(format!("src/{file}: begins without a //! that says what it is"));
        }
        let lines = production(&text).lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!(
                "src/{file}: {lines} lines before its tests, at most {FILE_LINES_MAX}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_async_runtime_is_in_the_tree() {
    let lock = read(&root().join("Cargo.lock"));
    let banned: Vec<&str> = BANNED_CRATES
        .iter()
        .copied()
        .filter(|name| lock.contains(&format!("\nname = \"{name}\"\n")))
        .collect();
    assert!(banned.is_empty(), "Cargo.lock holds {banned:?}");
}

#[test]
fn every_dependency_says_why() {
    let manifest = read(&root().join("Cargo.toml"));
    let mut in_dependencies = false;
    let mut before = "";
    let mut wrong = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains('=') && !before.starts_with('#') {
            wrong.push(line);
        }
        before = line;
    }
    assert!(wrong.is_empty(), "no reason on the line above: {wrong:?}");
}

#[test]
fn unsafe_code_and_clocks_have_one_place() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for (needle, home) in [
            ("Instant::now", "clock.rs"),
            ("SystemTime::now", "clock.rs"),
            ("#[allow(unsafe_code", ""),
        ] {
            if text.contains(needle) && file != home {
                wrong.push(format!("src/{file}: {needle}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checks_above_can_fail() {
    // A canary: the import reader must see through groups and supers, or the floors hold nothing.
    let text = "use crate::trading::{book::ladder, order};\nuse super::super::sim::x;\n    let y = crate::ops::z();\n";
    let found = imports("trading/feed/reader.rs", text);
    assert_eq!(found, ["trading::book::ladder", "trading::order", "trading::sim::x", "ops::z"]);
}

/// The acceptance scenarios of supervision: for each number there is a test called `sNN_...`.
const SCENARIOS: u32 = 56;

#[test]
fn every_acceptance_scenario_has_its_test() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    let texts: Vec<String> = files.iter().map(|f| read(f)).collect();
    let is_tested = |n: &u32| {
        texts.iter().any(|t| {
            t.contains(&format!("\nfn s{n:02}_")) || t.contains(&format!("    fn s{n:02}_"))
        })
    };
    let missing: Vec<u32> = (1..=SCENARIOS).filter(|n| !is_tested(n)).collect();
    assert!(missing.is_empty(), "no test for the scenarios {missing:?}");
}

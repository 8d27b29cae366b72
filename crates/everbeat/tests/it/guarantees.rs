//! GUARANTEES.md speaks of tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All the Rust source below a folder.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

/// Where the tests in Rust are.
fn code_in_rust() -> String {
    let folders = ["crates/everbeat-core/src", "crates/everbeat/src", "crates/everbeat/tests/it"];
    folders.iter().map(|folder| sources(&root().join(folder))).collect()
}

#[test]
fn every_clause_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("GUARANTEES.md")).unwrap();
    let code = code_in_rust();
    // What follows is checked by a test in Python.
    let (text, _) = text.split_once("\n## In Python\n").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id "));
    let mut ids = BTreeSet::new();
    for row in rows {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        assert!(ids.insert(columns[1]), "{} stands twice", columns[1]);
        let tests: Vec<_> = columns[3].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{} names no test", columns[1]);
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "{}: there is no test {test}", columns[1]);
        }
    }
    assert!(ids.len() > 40, "{ids:?}");
}

#[test]
fn every_fault_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("GUARANTEES.md")).unwrap();
    let code = code_in_rust();
    let (_, text) = text.split_once("\n## When something around it fails\n").unwrap();
    let rows: Vec<_> =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault ")).collect();
    for row in &rows {
        let tests: Vec<_> = row.split('|').nth(4).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        // Those that begin with `test_` are checked by a test in Python.
        for test in tests.iter().filter(|test| !test.starts_with("test_")) {
            assert!(code.contains(&format!("fn {test}(")), "there is no test {test}");
        }
    }
    assert!(rows.len() > 10, "{rows:?}");
}

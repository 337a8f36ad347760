//! The rules of the source tree, held by a test: `policy` stays pure, and the map in `lib.rs` is the tree.

use crate::harness::ROOT;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    all
}

/// The words of a line of code, comments left out. `a::b!` gives `a`, `b` and `b!`.
fn words(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or("");
    let mut words = Vec::new();
    let mut word = String::new();
    for c in code.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else if !word.is_empty() {
            if c == '!' {
                words.push(format!("{word}!"));
            }
            words.push(std::mem::take(&mut word));
        }
    }
    words
}

#[test]
fn policies_name_no_framework_no_runtime_no_files_no_clock_and_no_dice() {
    let forbidden = |w: &str| {
        let roots = [
            "pingora",
            "tokio",
            "serde",
            "rand",
            "fastrand",
            "env_logger",
        ];
        roots
            .iter()
            .any(|r| w == *r || w.starts_with(&format!("{r}_")))
            || [
                "log", "log!", "error!", "warn!", "info!", "debug!", "trace!",
            ]
            .contains(&w)
            || ["println!", "eprintln!"].contains(&w)
            || ["Instant", "SystemTime", "UNIX_EPOCH"].contains(&w)
            || ["fs", "thread", "process"].contains(&w)
    };
    let files = files(&Path::new(ROOT).join("src/policy"));
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        for (number, line) in text.lines().enumerate() {
            for word in words(line) {
                assert!(
                    !forbidden(&word),
                    "{}:{}: a policy may not name {word}",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

/// The modules that the table under "The map" in the crate's documentation names: the first cell of each row.
fn map() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).expect("src/lib.rs");
    let doc = text
        .lines()
        .filter_map(|l| l.strip_prefix("//!"))
        .map(str::trim);
    let section = doc
        .skip_while(|l| *l != "# The map")
        .skip(1)
        .take_while(|l| !l.starts_with('#'));
    section
        .filter_map(|l| l.strip_prefix("| [`")?.split_once("`]"))
        .map(|(name, _)| name.to_string())
        .collect()
}

#[test]
fn the_map_in_the_crate_documentation_is_the_tree() {
    let entries = std::fs::read_dir(Path::new(ROOT).join("src")).expect("src");
    let tree: BTreeSet<String> = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name != "main.rs" && name != "lib.rs")
        .map(|name| name.trim_end_matches(".rs").to_string())
        .collect();
    assert_eq!(map(), tree);
}

#[test]
fn every_file_says_what_it_is_for() {
    for dir in ["src", "tests/e2e", "tests/day"] {
        for file in files(&Path::new(ROOT).join(dir)) {
            let text = std::fs::read_to_string(&file).expect("text");
            assert!(
                text.starts_with("//!"),
                "{} does not open with //!",
                file.display()
            );
        }
    }
}

/// What the program needs, by the table of that in its manifest.
fn needed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("Cargo.toml");
    let table = text.lines().skip_while(|line| *line != "[dependencies]");
    table
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.to_string())
        .collect()
}

#[test]
fn the_fuzz_targets_can_be_built_with_the_versions_that_are_written_down_for_them() {
    let path = Path::new(ROOT).join("tests/fuzz/Cargo.lock");
    let text = std::fs::read_to_string(path).expect("the lock file");
    let mut packages = text.split("[[package]]\n");
    let own = packages.find(|package| package.starts_with("name = \"backstop\"\n"));
    let names = own.expect("ours").lines().filter_map(|line| {
        let name = line.strip_prefix(" \"")?.strip_suffix("\",")?;
        // A version follows where there are several.
        name.split(' ').next().map(str::to_string)
    });
    let known: BTreeSet<String> = names.collect();
    assert!(known.len() > 20, "{known:?}");
    assert_eq!(known, needed(), "run `cargo metadata` in tests/fuzz");
}

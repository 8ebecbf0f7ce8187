//! The numbers in the names of tests (`s07_…`, `a12_…`) are those of the lists, and each number of a list has a test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const LISTS: [&str; 3] = ["SCENARIOS.md", "HTTP.md", "WEBHOOKS.md"];

/// The sources below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The `s07` behind each mark: a letter of the lists and two digits.
fn numbers(text: &str, mark: &str, end: char) -> BTreeSet<String> {
    let behind = text.split(mark).skip(1).filter_map(|behind| behind.split_once(end));
    let is_number = |word: &str| match word.as_bytes() {
        [letter, tens, ones] => b"abcs".contains(letter) && tens.is_ascii_digit() && ones.is_ascii_digit(),
        _ => false,
    };
    behind.map(|(word, _)| word.to_owned()).filter(|word| is_number(word)).collect()
}

#[test]
fn numbers_of_tests_are_those_of_the_lists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(tests, &mut files);
    let read = |path: &Path| fs::read_to_string(path).expect("a file");
    let used: BTreeSet<_> = files.iter().flat_map(|path| numbers(&read(path), "fn ", '_')).collect();
    let listed: BTreeSet<_> = LISTS.iter().flat_map(|list| numbers(&read(&tests.join(list)), "- **", '*')).collect();
    assert_eq!(used, listed);
}

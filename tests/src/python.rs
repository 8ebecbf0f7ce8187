//! Packages of the Python Package Index: the reference clients of others, and a server.

#![expect(clippy::expect_used, clippy::panic, reason = "a harness that cannot do its work fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A command that runs a script with these packages, each with its version: `stripe==16.1.0`.
///
/// # Panics
///
/// As [`packages`].
#[must_use]
pub fn python(script: &Path, packages: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).env("PYTHONPATH", self::packages(packages)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The folder of these packages, each with its version.
///
/// They are installed once, into a folder beside the test binaries, and nowhere else.
///
/// # Panics
///
/// Where `python3` or its `pip` is missing, or the packages cannot be had.
#[must_use]
pub fn packages(packages: &[&str]) -> PathBuf {
    let binaries = std::env::current_exe().expect("our own path");
    let folder = binaries.with_file_name(format!("python-{}", packages.join("-")));
    if !folder.exists() {
        install(packages, &folder);
    }
    folder
}

fn install(packages: &[&str], folder: &Path) {
    let parts = tempfile::tempdir_in(folder.parent().expect("a folder")).expect("a temporary folder");
    let target = parts.path().join("packages");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(&target)
        .args(packages);
    let output = pip.output().unwrap_or_else(|error| panic!("python3 cannot be run: {error}"));
    assert!(output.status.success(), "{packages:?} cannot be had:\n{}", String::from_utf8_lossy(&output.stderr));
    // Where another process was faster, its folder is as good.
    if let Err(error) = fs::rename(&target, folder) {
        assert!(folder.exists(), "the packages cannot be kept: {error}");
    }
}

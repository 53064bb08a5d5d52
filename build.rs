//! Tells the program which compiler and which commit it was built with, for `--version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=BUILT_WITH=rust{}", compiler());
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=BUILT_FROM={commit}");
}

fn compiler() -> String {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // "rustc 1.89.0 (29483883e 2025-08-04)"
    let output = output.unwrap_or_default();
    output.split_whitespace().nth(1).unwrap_or("").to_string()
}

/// The variable comes first: where images are built there is no repository, and perhaps no git.
fn commit() -> Option<String> {
    println!("cargo:rerun-if-env-changed=BUILT_FROM");
    if let Ok(commit) = std::env::var("BUILT_FROM")
        && !commit.is_empty()
    {
        return Some(commit);
    }
    // These sources may lie inside another project's repository.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // It grows with every commit and checkout. A file that is missing would mean a build each time.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=9", "HEAD"])
}

/// The first line of what git prints, if it succeeds.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_string())
}

//! Tells the program which compiler built it, for `--version`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(compiler).arg("--version").output();
    let answer = answer.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // "rustc 1.89.0 (29483883e 2025-08-04)"
    let answer = answer.unwrap_or_default();
    let version = answer.split_whitespace().nth(1).unwrap_or("");
    println!("cargo:rustc-env=RAFTLOOKUPD_BUILT_WITH=rust{version}");
}

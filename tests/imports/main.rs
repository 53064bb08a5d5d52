//! Checks that imports within a crate have no cycles: of the modules in a folder, each with all that is
//! below it, none imports another that imports it, directly or not.
//!
//! An import is a path that begins with `crate`, `self`, `super` or a child module and leads into
//! another file. A module and the files below it are one room, where types and the code for them may
//! refer to each other. Test code is not looked at: a test may need anything. Cargo sees to it that
//! there is no cycle of crates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects
#![allow(unreachable_pub)] // the modules are a test's, nothing else sees them

mod graph;
mod paths;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graph::{Graph, cycles};

/// Where the code of each crate is.
const CRATES: [&str; 3] = ["storage/src", "raft/src", "src"];

#[test]
fn no_folder_has_a_cycle() {
    let folders = CRATES.map(|sources| {
        let folders = by_folder(&graph_of(sources)).into_iter();
        let found = folders.map(|(folder, graph)| {
            let folder = format!("{sources}/{folder}");
            shown(folder.trim_end_matches('/'), cycles(graph))
        });
        found.collect::<String>()
    });
    assert!(folders.concat().is_empty(), "{}", folders.concat());
}

fn shown(folder: &str, cycles: Vec<Vec<String>>) -> String {
    let shown = cycles.iter().map(|cycle| {
        let names = cycle
            .iter()
            .map(|name| if name.is_empty() { "lib" } else { name });
        let names: Vec<&str> = names.collect();
        format!("\nin {folder}: {}", names.join(" -> "))
    });
    shown.collect()
}

/// The files of a crate by their module paths, `a::b`, and what each imports.
fn graph_of(sources: &str) -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(sources);
    let mut files = Vec::new();
    find(&root, &mut files);
    let modules: BTreeMap<String, PathBuf> = files
        .into_iter()
        .filter_map(|file| Some((module_of(file.strip_prefix(&root).ok()?)?, file)))
        .collect();
    assert!(modules.len() > 3, "{sources} has no code");
    let known: BTreeSet<String> = modules.keys().cloned().collect();
    let imports = |(module, file): (&String, &PathBuf)| {
        let code =
            source::without_tests(&source::without_texts(&fs::read_to_string(file).unwrap()));
        (module.clone(), paths::imported(&code, module, &known))
    };
    modules.iter().map(imports).collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`, `lib.rs` is the empty path. The program's `main.rs` is a
/// crate of its own; tests in files of their own are none of the graph.
fn module_of(file: &Path) -> Option<String> {
    let parts = file.with_extension("");
    let mut parts: Vec<&str> = parts.iter().filter_map(|part| part.to_str()).collect();
    let is_code = file.extension().is_some_and(|extension| extension == "rs");
    if !is_code || parts.contains(&"tests") || parts == ["main"] {
        return None;
    }
    if parts == ["lib"] || parts.last() == Some(&"mod") {
        parts.pop();
    }
    Some(parts.join("::"))
}

/// For each folder, which of its modules import which, each with all that is below it.
fn by_folder(files: &Graph) -> BTreeMap<String, Graph> {
    let mut folders: BTreeMap<String, Graph> = BTreeMap::new();
    for (from, imports) in files {
        for to in imports {
            let (from, to): (Vec<&str>, Vec<&str>) = (split(from), split(to));
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other);
            let shared = shared.count();
            // A module and one below it are not side by side.
            let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) else {
                continue;
            };
            let graph = folders.entry(from[..shared].join("/")).or_default();
            graph
                .entry((*one).into())
                .or_default()
                .insert((*other).into());
        }
    }
    folders
}

fn split(module: &str) -> Vec<&str> {
    module.split("::").filter(|part| !part.is_empty()).collect()
}

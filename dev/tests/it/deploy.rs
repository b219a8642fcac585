//! What `deploy/` and the pages for operators say, compared with the programs, and checked by the tools that
//! will read it.

mod commands;
mod texts;
mod tools;

use std::path::{Path, PathBuf};

/// A file or directory of the repository.
fn path(name: &str) -> PathBuf {
    testing::workspace::root().join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The texts of all files below a directory, with their names.
fn files(directory: &str) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![path(directory)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Secrets that somebody created for a trial.
                if !path.ends_with("secrets") {
                    folders.push(path);
                }
            } else {
                found.push((name(&path), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(testing::workspace::root()).unwrap().display().to_string()
}

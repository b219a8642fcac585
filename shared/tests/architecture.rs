//! The dependency rules of `docs/architecture.md`: which module may use which.
#![expect(clippy::unwrap_used, reason = "a source file that cannot be read has failed the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, lowest first. A room reads only those before it.
const ROOMS: [&str; 21] = [
    "error",
    "values",
    "platform",
    "query",
    "events",
    "queue",
    "records",
    "mail",
    "accounts",
    "webhooks",
    "imports",
    "bulk",
    "crm",
    "workflows",
    "insight",
    "schedule",
    "release",
    "jobs",
    "operations",
    "migrate",
    "doctor",
];
/// The rooms that may read several nouns of the CRM in one file.
const READ_MANY_NOUNS: [&str; 2] = ["crm", "insight"];

/// A file's room and the paths below `crate` that it names, without its unit tests.
struct File {
    path: PathBuf,
    room: String,
    reads: Vec<Vec<String>>,
}

fn files() -> Vec<File> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut folders) = (Vec::new(), vec![src.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
                let path = path.strip_prefix(&src).unwrap().to_owned();
                let room = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
                let reads = reads(&fs::read_to_string(src.join(&path)).unwrap());
                files.push(File { path, room, reads });
            }
        }
    }
    files.retain(|file| file.room != "lib");
    files
}

fn reads(text: &str) -> Vec<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    code.match_indices("crate::").flat_map(|(at, found)| paths(&code[at + found.len()..])).collect()
}

/// The paths at the beginning of a text: several if it continues with a group in braces.
fn paths(text: &str) -> Vec<Vec<String>> {
    let end = text.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).unwrap_or(text.len());
    let head: Vec<String> = text[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let Some(group) = text[end..].strip_prefix('{') else { return vec![head] };
    let (mut depth, mut items, mut begin) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(group[begin..at].trim());
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    let items = items.into_iter().filter(|item| !item.is_empty()).flat_map(paths);
    items.map(|item| head.iter().cloned().chain(item.into_iter().filter(|part| part != "self")).collect()).collect()
}

fn height(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

#[test]
fn a_room_reads_only_lower_rooms() {
    for file in files() {
        let own = height(&file.room).unwrap_or_else(|| panic!("{} is in no room", file.path.display()));
        for read in &file.reads {
            // Names that are not rooms are macros and exports of `lib.rs`.
            let read_height = height(&read[0]).unwrap_or_default();
            assert!(read_height <= own, "{} reads {}, which lies higher", file.path.display(), read.join("::"));
        }
    }
}

#[test]
fn every_room_is_there() {
    let rooms: BTreeSet<String> = files().into_iter().map(|file| file.room).collect();
    assert_eq!(rooms, ROOMS.map(str::to_owned).into());
}

#[test]
fn queue_and_mail_know_no_record_but_its_type() {
    for file in files().iter().filter(|file| ["queue", "mail"].contains(&file.room.as_str())) {
        for read in file.reads.iter().filter(|read| read[0] == "records") {
            assert_eq!(read[1..], ["RecordType"], "{}", file.path.display());
        }
    }
}

#[test]
fn only_reports_read_many_nouns() {
    for file in files().iter().filter(|file| !READ_MANY_NOUNS.contains(&file.room.as_str())) {
        let nouns: BTreeSet<&String> =
            file.reads.iter().filter(|read| read[0] == "crm").filter_map(|read| read.get(1)).collect();
        assert!(nouns.len() <= 2, "{} reads {nouns:?}", file.path.display());
    }
}

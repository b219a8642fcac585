//! `cargo dev bench hostile-files`

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;
use shared::crm::leads::Lead;
use shared::imports::rows::{read, split_file};
use shared::imports::{Options, Owners};

use super::figures::{Bound, Figures};

/// The most nanoseconds per byte.
const PER_BYTE: f64 = 100.0;
const LETTERS: [&[u8]; 5] = [b"\"", b",", b"\n", b"a", b"\xff"];
/// Words that leave a quote open on each line.
const OPEN: [&[u8]; 3] = [b"a\",\"\n", b"a\",\"\r", b"a\",\"\na,b\n"];

#[derive(Debug, Args)]
pub struct Arguments {
    /// The size of each file.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    size: usize,
}

/// Splits and reads hostile files: repeated words of up to three letters, invalid bytes in several encodings, and
/// equal headers.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut figures = Figures::new("hostile-files", json!({ "bytes": arguments.size }));
    let mut worst = [("split", 0.0, String::new()), ("read", 0.0, String::new())];
    for (name, file, options) in files(arguments.size)? {
        let began = Instant::now();
        let Ok(split) = split_file::<Lead>(&file, 64 * 1024, &options) else { continue };
        let splitting = began.elapsed();
        let began = Instant::now();
        for chunk in &split.chunks {
            read::<Lead>(&split.plan, &Owners::default(), chunk).map_err(|error| anyhow!("{error}"))?;
        }
        let per_byte = [splitting, began.elapsed()].map(|time| time.as_secs_f64() * 1e9 / file.len() as f64);
        figures.sample(json!({ "file": name, "split_ns": per_byte[0], "read_ns": per_byte[1] }));
        for ((_, most, of), time) in worst.iter_mut().zip(per_byte) {
            if time > *most {
                (*most, *of) = (time, name.clone());
            }
        }
    }
    for (part, most, of) in worst {
        figures.alone(&format!("{part}, per byte of the worst file, {of}"), most, "ns", Bound::AtMost(PER_BYTE));
    }
    Ok(figures.table())
}

/// Files with their names and options.
fn files(size: usize) -> Result<Vec<(String, Vec<u8>, Options)>> {
    let options = |encoding: Option<&str>| {
        let encoding = encoding.map(|name| ("encoding".to_owned(), name.to_owned()));
        Options::parse(&encoding.into_iter().collect::<Vec<_>>()).map_err(|error| anyhow!("{error}"))
    };
    let mut files = Vec::new();
    for word in words() {
        let file = [b"name,email\n".to_vec(), word.repeat(size / word.len())].concat();
        files.push((format!("{:?}", word.escape_ascii().to_string()), file, options(None)?));
    }
    for encoding in ["gb18030", "shift_jis", "euc-kr", "utf-8"] {
        files.push((format!("0xff as {encoding}"), broken(size), options(Some(encoding))?));
    }
    let headers = format!("name,email{}\n", ",a".repeat(998));
    let row = format!("Ada,ada@example.com{}\n", ",".repeat(998));
    let file = headers + &row.repeat(size / row.len());
    files.push(("998 equal headers".into(), file.into_bytes(), options(None)?));
    Ok(files)
}

fn words() -> Vec<Vec<u8>> {
    let longer = |words: &[Vec<u8>]| -> Vec<Vec<u8>> {
        words.iter().flat_map(|word| LETTERS.map(|letter| [word.as_slice(), letter].concat())).collect()
    };
    let one = longer(&[Vec::new()]);
    let two = longer(&one);
    let three = longer(&two);
    [one, two, three, OPEN.map(<[u8]>::to_vec).to_vec()].concat()
}

/// A header that is valid in all of the encodings, and invalid bytes.
fn broken(size: usize) -> Vec<u8> {
    [b"name,email\n".to_vec(), vec![0xff; size]].concat()
}

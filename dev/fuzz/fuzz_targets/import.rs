//! Any bytes are read as rows and rejected rows, or rejected as a file, in linear time and without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::Error;
use shared::crm::leads::Lead;
use shared::imports::{Format, Options};
use shared::imports::head::{HEAD, LOOKS};
use shared::imports::rows::{read_file, split_file};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, file) = input;
    let Ok(options) = Options::parse(&[]) else { return };
    match read_file::<Lead>(file, usize::from(piece) + 1, &options) {
        Ok((chunks, records)) => {
            let read: usize = chunks.iter().map(|chunk| chunk.rows.len() + chunk.reports.len()).sum();
            assert_eq!(read as u64, records);
            // In UTF-8 the file is up to three times as long; all but its head is read at most three times.
            let text = file.len() * 3;
            // Lines of JSON become rows with a cell for each column, so only the text of CSV is as long as the file.
            let split = split_file::<Lead>(file, usize::from(piece) + 1, &options);
            let looked = split.map_or(0, |split| if split.plan.format == Format::Csv { split.looked } else { 0 });
            assert!(looked <= (LOOKS * text.min(HEAD) + 3 * text) as u64);
        }
        Err(Error::Invalid(_)) => {}
        Err(error) => panic!("{error}"),
    }
});

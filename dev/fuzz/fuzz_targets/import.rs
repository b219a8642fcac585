//! Any bytes are rows and refusals, or a fault of the file, in time that grows with the file; never a
//! panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::Error;
use shared::crm::leads::Lead;
use shared::imports::Options;
use shared::imports::head::{HEAD, LOOKS};
use shared::imports::rows::{read_file, split_file};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, file) = input;
    let Ok(options) = Options::parse(&[]) else { return };
    match read_file::<Lead>(file, usize::from(piece) + 1, &options) {
        Ok((chunks, records)) => {
            let read: usize = chunks.iter().map(|chunk| chunk.rows.len() + chunk.refused.len()).sum();
            assert_eq!(read as u64, records);
            // As UTF-8 it is up to three times as long; all but its head is looked at three times at most.
            let text = file.len() * 3;
            let looked = split_file::<Lead>(file, usize::from(piece) + 1, &options).map_or(0, |split| split.looked);
            assert!(looked <= (LOOKS * text.min(HEAD) + 3 * text) as u64);
        }
        Err(Error::Invalid(_)) => {}
        Err(error) => panic!("{error}"),
    }
});

//! Any bytes are rows and refusals, or a fault of the file; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::Error;
use shared::imports::Options;
use shared::imports::rows::read_file;
use shared::leads::Lead;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, file) = input;
    let Ok(options) = Options::parse(&[]) else { return };
    match read_file::<Lead>(file, usize::from(piece) + 1, &options) {
        Ok((chunks, records)) => {
            let read: usize = chunks.iter().map(|chunk| chunk.rows.len() + chunk.refused.len()).sum();
            assert_eq!(read as u64, records);
        }
        Err(Error::Invalid(_)) => {}
        Err(error) => panic!("{error}"),
    }
});

//! Files of mixed rows, and the expected results of importing them.
//!
//! The expectation is an independent model: it is counted while the rows are generated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

const HEADER: &str = "name,email,phone,company,notes,do not email\n";
/// Every so many rows, the person wants no email.
const OPT_OUTS: i64 = 20;
/// The number of leads that exist before the other files are imported.
const KNOWN: usize = 2_000;
/// The number of leads that several files contain; which file creates one depends on timing.
const RACING: usize = 2_000;
/// Text that makes a file of 10,000 rows several chunks long.
const NOTE: &str = "\"Met at the fair in spring; wants an offer for the larger size, and a call before \
     the end of the quarter. Prefers email. Knows the team from the earlier project in Lyon.\"";

/// How an import handles a row whose email is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    Skip,
    Update,
    Fail,
}

impl OnConflict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Update => "update",
            Self::Fail => "fail",
        }
    }
}

/// A file and the expected result of importing it.
pub struct File {
    pub on_conflict: OnConflict,
    pub csv: String,
    pub rows: i64,
    /// The number of rows that are always rejected.
    pub bad: i64,
    /// The number of rows whose email is certainly taken.
    pub conflicts: i64,
    /// The leads that only this file contains, by email, with the expected company.
    pub own: BTreeMap<String, String>,
    /// The leads that other files may have created before.
    pub racing: BTreeSet<String>,
    /// The addresses that the file suppresses.
    pub opted_out: BTreeSet<String>,
}

impl File {
    fn empty(on_conflict: OnConflict) -> Self {
        Self {
            on_conflict,
            csv: HEADER.to_owned(),
            rows: 0,
            bad: 0,
            conflicts: 0,
            own: BTreeMap::new(),
            racing: BTreeSet::new(),
            opted_out: BTreeSet::new(),
        }
    }

    fn push(&mut self, name: &str, email: &str, company: &str) {
        self.rows += 1;
        let is_out = self.rows % OPT_OUTS == 0;
        if is_out && email.contains('@') {
            self.opted_out.insert(email.to_lowercase());
        }
        let out = if is_out { "yes" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(self.csv, "{name},{email},+49 30 {:07},{company},{NOTE},{out}", self.rows);
    }

    fn push_own(&mut self, email: String, company: String) {
        self.push_named("Ada Example", email, company);
    }

    fn push_named(&mut self, name: &str, email: String, company: String) {
        self.push(name, &email, &company);
        self.own.insert(email, company);
    }
}

/// The file that creates the known leads.
pub fn base() -> File {
    let mut file = File::empty(OnConflict::Skip);
    for n in 0..KNOWN {
        file.push_own(known(n), format!("Base {n}"));
    }
    file
}

/// A file of valid rows.
pub fn plain(rows: usize) -> File {
    let mut file = File::empty(OnConflict::Skip);
    for n in 0..rows {
        file.push_own(format!("lead{n}@example.com"), format!("Company {n}"));
    }
    file
}

/// A file of mixed rows. The same number and seed give the same file.
pub fn mixed(number: usize, rows: usize, seed: u64) -> File {
    let random = &mut StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
    let on_conflict = [OnConflict::Skip, OnConflict::Update, OnConflict::Fail][number % 3];
    let mut file = File::empty(on_conflict);
    for row in 0..rows {
        let company = format!("Company {number} {row}");
        match random.random_range(0..100) {
            0..3 => {
                file.push("Bob Bad", "not-an-email", &company);
                file.bad += 1;
            }
            // A lead without a name takes that of its company.
            3..5 => file.push_named("", format!("nameless-{number}-{row}@example.com"), company),
            5..10 => {
                // An email of this file again, sometimes in capitals.
                let Some(email) = file.own.keys().choose(random).cloned() else { continue };
                let spelling = if random.random_bool(0.5) { email.to_uppercase() } else { email.clone() };
                file.push("Ada Again", &spelling, &company);
                file.conflicts += 1;
                if on_conflict == OnConflict::Update {
                    file.own.insert(email, company);
                }
            }
            10..14 => {
                file.push("Carl Known", &known(random.random_range(0..KNOWN)), &company);
                file.conflicts += 1;
            }
            14 => {
                let email = format!("racing-{}@example.com", random.random_range(0..RACING));
                file.push("Dora Racing", &email, &company);
                // The second time in one file, the email is certainly taken.
                if !file.racing.insert(email) {
                    file.conflicts += 1;
                }
            }
            _ => file.push_own(format!("lead-{number}-{row}@example.com"), company),
        }
    }
    file
}

fn known(n: usize) -> String {
    format!("known-{n}@example.com")
}

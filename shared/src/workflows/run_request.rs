//! The parameters with which a run that writes emails is started: by a request, or by a schedule.

use super::brake::Start;
use crate::error::Result;
use crate::query::parameters::{Parameters, whole};

/// The parameters of a run that writes emails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunRequest {
    /// Whether it only reports what it would do.
    pub dry_run: bool,
    /// The most emails that it may write.
    pub confirm: Option<u32>,
}

impl RunRequest {
    /// The names of the parameters.
    pub const NAMES: [&str; 2] = ["dry_run", "confirm"];

    /// Reads the parameters of a run that has no others.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault.
    pub fn read(parameters: &[(String, String)]) -> Result<Self> {
        let mut parameters = Parameters::new(parameters);
        let (dry_run, confirm) = (parameters.flag("dry_run"), confirm(&mut parameters));
        parameters.finish()?;
        Ok(Self { dry_run, confirm })
    }

    /// How the run is started.
    pub(crate) fn start(self, asked: bool) -> Start {
        Start { asked, confirm: self.confirm }
    }
}

/// Takes the number of emails that a caller confirms.
pub fn confirm(parameters: &mut Parameters<'_>) -> Option<u32> {
    parameters.take_as("confirm", |text| whole(text, 0..=u32::MAX))
}

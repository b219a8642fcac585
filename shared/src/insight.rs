//! Figures computed from the records. The only room that reads many nouns.

pub mod feedback;
pub mod filters;
pub mod health;
pub mod period;
pub mod ratio;
pub mod reports;
pub mod request;
pub mod scoring;
pub mod segments;
pub mod table;
pub mod themes;

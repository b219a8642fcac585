//! Settling how the ambiguous cells of each column are read, by its own cells in the first chunk.

use csv::ByteRecord;
use uuid::Uuid;

use super::cells::dates::{DateEvidence, DateForm};
use super::cells::numbers::{self, Decimal, NumberForm};
use super::columns::Target;
use super::grammar::Records;
use super::packed::{self, CellKind, Unpacked};
use super::plan::{CellForm, Plan, RowKey};
use super::split::Chunk;
use super::{Importable, Options};
use crate::values::Field;
use crate::values::kind::Kind;

/// The columns that every export of ours has.
const OWN_COLUMNS: [&str; 3] = ["id", "created_at", "updated_at"];

impl From<CellForm> for NumberForm {
    fn from(form: CellForm) -> Self {
        match form {
            CellForm::Number { decimal, is_given } => Self { decimal, is_given },
            CellForm::Text | CellForm::Date(_) => Self::default(),
        }
    }
}

impl From<CellForm> for DateForm {
    fn from(form: CellForm) -> Self {
        match form {
            CellForm::Date(form) => form,
            CellForm::Text | CellForm::Number { .. } => DateEvidence::default().form(false),
        }
    }
}

/// What the cells of a column show.
enum Evidence {
    None,
    Date(DateEvidence),
    Number(Separators),
    Id(Ids),
}

/// The ids of a column named `id`.
#[derive(Default)]
struct Ids {
    own: bool,
    foreign: bool,
}

/// The decimal separators of the numbers of a column that allow one reading.
#[derive(Default)]
struct Separators {
    comma: bool,
    point: bool,
}

/// Settles how the cells of each column are read, by the options, and by the cells of the file's first chunk.
pub(super) fn settle<R: Importable>(plan: &mut Plan, first: &Chunk, options: &Options) {
    let is_own_export = OWN_COLUMNS.iter().all(|own| plan.headers.iter().any(|header| header == own));
    let decimal = options.decimal.or(is_own_export.then_some(Decimal::Point));
    let mut evidence: Vec<Evidence> = plan.targets.iter().map(|target| of_target::<R>(target)).collect();
    let is_open = |evidence: &Evidence| match evidence {
        Evidence::None => false,
        Evidence::Date(_) => options.date_order.is_none() && !is_own_export,
        Evidence::Number(_) => decimal.is_none(),
        Evidence::Id(_) => plan.key != RowKey::Id,
    };
    if evidence.iter().any(is_open) && first.refusal.is_none() {
        gather(plan, first, &mut evidence);
    }
    let years_first = plan.language.as_ref().is_some_and(|language| {
        ["Japanese", "Korean", "Chinese", "Hungarian"].iter().any(|name| language.starts_with(name))
    });
    let has_own_key = options.key.is_none() && !R::KEYS.contains(&RowKey::Email);
    for (target, evidence) in plan.targets.iter_mut().zip(&evidence) {
        // The ids of another system.
        if matches!(evidence, Evidence::Id(Ids { own: false, foreign: true })) {
            *target = Target::Field(RowKey::ExternalId.as_str().to_owned());
        }
        // An export of ours finds its records by their ids.
        if matches!(evidence, Evidence::Id(Ids { own: true, foreign: false })) && has_own_key {
            plan.key = RowKey::Id;
        }
    }
    let form = |evidence: Evidence| match evidence {
        Evidence::None | Evidence::Id(_) => CellForm::Text,
        Evidence::Date(seen) => CellForm::Date(match options.date_order {
            Some(order) => DateForm { dotted: Some(order), other: Some(order) },
            None => seen.form(years_first),
        }),
        Evidence::Number(seen) => CellForm::Number {
            decimal: decimal.or(match (seen.comma, seen.point) {
                (true, false) => Some(Decimal::Comma),
                (false, true) => Some(Decimal::Point),
                _ => None,
            }),
            is_given: decimal.is_some(),
        },
    };
    plan.forms = evidence.into_iter().map(form).collect();
}

fn of_target<R: Importable>(target: &Target) -> Evidence {
    let Target::Field(field) = target else { return Evidence::None };
    if field == RowKey::Id.as_str() && R::COLUMNS.contains(&RowKey::ExternalId.as_str()) {
        return Evidence::Id(Ids::default());
    }
    match R::FIELDS.iter().find(|known| known.name == field).map(|known| known.kind) {
        Some(Kind::Time) => Evidence::Date(DateEvidence::default()),
        Some(Kind::Number) => Evidence::Number(Separators::default()),
        _ => Evidence::None,
    }
}

fn gather(plan: &Plan, first: &Chunk, evidence: &mut [Evidence]) {
    let mut records = Records::new(&first.data, plan.delimiter, false, first.first_line);
    let mut record = ByteRecord::new();
    while records.read(&mut record).is_some() {
        let kinds = match plan.format.is_packed().then(|| packed::unpack(&mut record)) {
            None => Vec::new(),
            Some(Unpacked::Cells(kinds)) => kinds,
            Some(Unpacked::Rejected(..)) => continue,
        };
        let kinds = kinds.into_iter().chain(std::iter::repeat(CellKind::Text));
        for ((cell, kind), evidence) in record.iter().zip(kinds).zip(&mut *evidence) {
            // Only what people write has several readings.
            let is_open = kind == CellKind::Text || matches!(evidence, Evidence::Id(_));
            if matches!(evidence, Evidence::None) || !is_open {
                continue;
            }
            let Ok(text) = std::str::from_utf8(cell) else { continue };
            let text = plan.unguard(text.trim());
            match evidence {
                Evidence::None => {}
                Evidence::Id(_) if text.is_empty() => {}
                Evidence::Id(seen) => match Uuid::from_text(&text) {
                    Ok(_) => seen.own = true,
                    Err(_) => seen.foreign = true,
                },
                Evidence::Date(seen) => seen.add(&text),
                Evidence::Number(seen) => match numbers::evidence(&text) {
                    Some(Decimal::Comma) => seen.comma = true,
                    Some(Decimal::Point) => seen.point = true,
                    None => {}
                },
            }
        }
    }
}

//! The filters of reports.

use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::crm::customers::{CustomerStatus, CustomerType, Segment};
use crate::crm::leads::{LeadSource, LeadStatus};
use crate::error::Result;
use crate::query::parameters::Parameters;
use crate::values::{Fault, Field};

/// A statement that is put together.
pub(super) type Sql = QueryBuilder<Postgres>;

/// A field that a report can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterBy {
    /// The source of leads.
    Source,
    /// The status of leads.
    LeadStatus,
    /// The type of customers.
    CustomerType,
    /// The status of customers.
    CustomerStatus,
    /// The owner of leads or customers.
    AssignedTo,
    /// The segment of customers.
    Segment,
    /// The category of feedback, ignoring case.
    Category,
}

impl FilterBy {
    /// The parameter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::LeadStatus | Self::CustomerStatus => "status",
            Self::CustomerType => "type",
            Self::AssignedTo => "assigned_to",
            Self::Segment => "segment",
            Self::Category => "category",
        }
    }

    /// The values of an enumeration; `None` for ids and texts.
    pub const fn words(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Source => Some(LeadSource::WORDS),
            Self::LeadStatus => Some(LeadStatus::WORDS),
            Self::CustomerType => Some(CustomerType::WORDS),
            Self::CustomerStatus => Some(CustomerStatus::WORDS),
            Self::Segment => Some(Segment::WORDS),
            Self::AssignedTo | Self::Category => None,
        }
    }

    /// Parses one value in its one form; `None` stands for an empty field.
    fn value(self, text: &str) -> Result<Option<String>, Fault> {
        match (self, self.words()) {
            (_, Some(words)) if words.contains(&text) => Ok(Some(text.to_owned())),
            (_, Some(words)) => Err(Fault::new("invalid", format!("must be one of: {}", words.join(" ")))),
            (_, None) if text == "null" => Ok(None),
            (Self::AssignedTo, None) => Ok(Some(Uuid::from_text(text)?.to_string())),
            (_, None) => Ok(Some(folded(&String::from_text(text)?))),
        }
    }
}

/// A text without differences of case.
pub(super) fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

/// The values of one filter, of which a record must have one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Values {
    by: FilterBy,
    /// In order, each once.
    values: Vec<String>,
    /// Whether records without a value are included.
    or_empty: bool,
}

impl Values {
    fn parse(by: FilterBy, texts: &[&str]) -> Result<Self, Fault> {
        let (mut values, mut or_empty) = (Vec::new(), false);
        // A comma can be part of a category, which is repeated instead.
        let separator = if by == FilterBy::Category { '\0' } else { ',' };
        for text in texts.iter().flat_map(|text| text.split(separator)) {
            if text.is_empty() {
                return Err(Fault::new("required", "must not be empty"));
            }
            match by.value(text)? {
                Some(value) => values.push(value),
                None => or_empty = true,
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { by, values, or_empty })
    }

    fn push(&self, sql: &mut Sql, column: &str) {
        sql.push(format!(" AND ({column} = ANY ("));
        match self.by {
            FilterBy::AssignedTo => {
                let ids = self.values.iter().filter_map(|id| Uuid::try_parse(id).ok());
                sql.push_bind(ids.collect::<Vec<_>>());
            }
            _ => _ = sql.push_bind(self.values.clone()),
        }
        sql.push(if self.or_empty { format!(") OR {column} IS NULL)") } else { "))".to_owned() });
    }
}

/// How segments are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segments {
    OneOf,
    NoneOf,
}

impl Segments {
    /// The comparison with an array, for a row of scores.
    fn of_row(self) -> &'static str {
        match self {
            Self::OneOf => "= ANY",
            Self::NoneOf => "<> ALL",
        }
    }
}

/// The filters of a request. They apply to every figure of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<Values>);

impl Filters {
    /// Takes the filters that a report has. Each may be repeated, and have several values with commas.
    pub fn take(parameters: &mut Parameters<'_>, offered: &[FilterBy]) -> Self {
        let mut all = Vec::new();
        for by in offered {
            let texts = parameters.take_all(by.name());
            if texts.is_empty() {
                continue;
            }
            match Values::parse(*by, &texts) {
                Ok(values) => all.push(values),
                Err(fault) => parameters.refuse(fault.of(by.name())),
            }
        }
        Self(all)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one by this field.
    pub fn has(&self, by: FilterBy) -> bool {
        self.get(by).is_some()
    }

    fn get(&self, by: FilterBy) -> Option<&Values> {
        self.0.iter().find(|values| values.by == by)
    }

    /// The filters in one form.
    pub fn key(&self) -> String {
        self.0.iter().map(|Values { by, values, or_empty }| format!("{by:?} {values:?} {or_empty};")).collect()
    }

    /// The filters as parameters of a list, each with a leading `&`.
    pub fn as_parameters(&self) -> String {
        let parameter = |Values { by, values, or_empty }: &Values| {
            let values = values.iter().map(String::as_str).chain(or_empty.then_some("null"));
            format!("&{}={}", by.name(), values.collect::<Vec<_>>().join(","))
        };
        self.0.iter().map(parameter).collect()
    }

    /// Adds the conditions on leads.
    pub(super) fn push_leads(&self, sql: &mut Sql) {
        for (by, column) in
            [(FilterBy::Source, "source"), (FilterBy::LeadStatus, "status"), (FilterBy::AssignedTo, "assigned_to")]
        {
            self.push(sql, by, column);
        }
    }

    /// Adds the conditions on customers.
    pub(super) fn push_customers(&self, sql: &mut Sql, workspace_id: Uuid) {
        self.push_columns(sql);
        self.push_segment(sql, workspace_id, "customers.id");
    }

    /// Adds the conditions on the customer whose id is in a column of another table.
    pub(super) fn push_customer_of(&self, sql: &mut Sql, workspace_id: Uuid, column: &str) {
        self.push_customer_columns(sql, workspace_id, column);
        self.push_segment(sql, workspace_id, column);
    }

    fn push_customer_columns(&self, sql: &mut Sql, workspace_id: Uuid, column: &str) {
        if [FilterBy::CustomerType, FilterBy::CustomerStatus, FilterBy::AssignedTo].iter().any(|by| self.has(*by)) {
            sql.push(format!(" AND {column} IN (SELECT id FROM customers WHERE workspace_id = "));
            sql.push_bind(workspace_id);
            self.push_columns(sql);
            sql.push(")");
        }
    }

    /// Adds the condition on the category of feedback. Needs [`Filters::with_spellings`].
    pub(super) fn push_category(&self, sql: &mut Sql, column: &str) {
        self.push(sql, FilterBy::Category, column);
    }

    fn push(&self, sql: &mut Sql, by: FilterBy, column: &str) {
        if let Some(values) = self.get(by) {
            values.push(sql, column);
        }
    }

    fn push_columns(&self, sql: &mut Sql) {
        for (by, column) in [
            (FilterBy::CustomerType, "customers.type"),
            (FilterBy::CustomerStatus, "customers.status"),
            (FilterBy::AssignedTo, "customers.assigned_to"),
        ] {
            self.push(sql, by, column);
        }
    }

    /// Adds the conditions on the customer of a row of scores.
    pub(super) fn push_scored(&self, sql: &mut Sql, workspace_id: Uuid) {
        self.push_customer_columns(sql, workspace_id, "scores.customer_id");
        if let Some((comparison, segments)) = self.segments() {
            sql.push(format!(" AND scores.segment {} (", comparison.of_row())).push_bind(segments).push(")");
        }
    }

    fn push_segment(&self, sql: &mut Sql, workspace_id: Uuid, column: &str) {
        let Some((comparison, segments)) = self.segments() else { return };
        sql.push(if comparison == Segments::NoneOf { " AND NOT EXISTS (" } else { " AND EXISTS (" });
        sql.push("SELECT FROM customer_scores AS scores WHERE scores.workspace_id = ").push_bind(workspace_id);
        sql.push(format!(" AND scores.customer_id = {column} AND scores.segment = ANY ("));
        sql.push_bind(segments).push("))");
    }

    /// The segments that the score of a customer must or must not have. A customer without a row of scores is a
    /// prospect, so prospects are those without another segment.
    fn segments(&self) -> Option<(Segments, Vec<String>)> {
        let Values { values, .. } = self.get(FilterBy::Segment)?;
        if !values.iter().any(|value| value == Segment::Prospects.as_str()) {
            return Some((Segments::OneOf, values.clone()));
        }
        let others = Segment::WORDS.iter().filter(|&word| !values.iter().any(|value| value == word));
        let others: Vec<String> = others.map(|&word| word.to_owned()).collect();
        (!others.is_empty()).then_some((Segments::NoneOf, others))
    }

    /// The same filters, with categories as they are written in the answers of a workspace: the database may
    /// not know the case of all letters.
    pub(super) async fn with_spellings(&self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<Self> {
        let mut filters = self.clone();
        for filter in filters.0.iter_mut().filter(|filter| filter.by == FilterBy::Category) {
            let written: Vec<String> = sqlx::query_scalar(
                "SELECT DISTINCT category FROM feedback
                 WHERE workspace_id = $1 AND answered_at IS NOT NULL AND category IS NOT NULL",
            )
            .bind(workspace_id)
            .fetch_all(&mut *connection)
            .await?;
            let wanted = std::mem::take(&mut filter.values);
            filter.values = written.into_iter().filter(|written| wanted.contains(&folded(written))).collect();
        }
        Ok(filters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn taken(pairs: &[(&str, &str)], offered: &[FilterBy]) -> Result<Filters> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut parameters = Parameters::new(&pairs);
        let filters = Filters::take(&mut parameters, offered);
        parameters.finish().map(|()| filters)
    }

    #[test]
    fn equal_filters_have_one_form() {
        let offered = [FilterBy::LeadStatus, FilterBy::Category];
        let key = |pairs: &[(&str, &str)]| taken(pairs, &offered).unwrap().key();
        assert_eq!(key(&[("status", "won,new")]), key(&[("status", "new"), ("status", "won"), ("status", "new")]));
        assert_eq!(key(&[("category", "MÜLL")]), key(&[("category", "Müll"), ("category", "müll")]));
        assert_ne!(key(&[("category", "a,b")]), key(&[("category", "a"), ("category", "b")]));
        assert_ne!(key(&[]), key(&[("status", "new")]));
    }

    #[test]
    fn invalid_values_and_other_filters_are_rejected() {
        let offered = [FilterBy::CustomerType, FilterBy::AssignedTo, FilterBy::Segment];
        let pairs = [("type", "person"), ("assigned_to", "me"), ("segment", ""), ("source", "website")];
        let Err(Error::Invalid(errors)) = taken(&pairs, &offered) else { panic!("taken") };
        let errors: Vec<(&str, &str)> =
            errors.iter().map(|error| (error.field.as_str(), error.code.as_ref())).collect();
        assert_eq!(
            errors,
            [("type", "invalid"), ("assigned_to", "invalid"), ("segment", "required"), ("source", "unknown")]
        );
    }

    #[test]
    fn filters_continue_in_lists() {
        let offered = [FilterBy::CustomerType, FilterBy::AssignedTo];
        let id = "01890a5d-ac96-774b-bceb-b302099a8057";
        let owners = format!("{id},null");
        let filters = taken(&[("assigned_to", &owners), ("type", "business")], &offered).unwrap();
        assert_eq!(filters.as_parameters(), format!("&type=business&assigned_to={owners}"));
    }
}

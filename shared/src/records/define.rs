//! The macro that declares a kind of record.

/// Declares a kind of record, field by field, in the order of its JSON, its CSV and its table.
///
/// Each field has a mode:
///
/// - `required`: must be set when the record is created, and cannot be cleared;
/// - `composed`: like `required`, but [`Record::compose`](crate::records::Record::compose) may make it
///   from other fields;
/// - `optional`: may be absent, and is cleared with `null`; its type is an `Option`;
/// - `defaulted`: has the value after `=` unless the request sets another;
/// - `fixed`: read-only; its type is an `Option`;
/// - `kept`: read-only, with the value after `=` until the server sets another;
/// - `parent`: the id of the record under whose path this one is addressed.
///
/// Fields in a block `computed` are not stored with the record. They are read-only, and read from the
/// column of another table that is given after `=`.
///
/// The macro defines the record and its schema, the values that a request or a file sets (`Changes`),
/// and implements [`Fields`](crate::records::Fields).
#[macro_export]
macro_rules! record {
    (
        $(#[doc = $about:literal])*
        $record:ident, $changes:ident in $table:literal {
            $($(#[doc = $field_about:literal])* $mode:ident $field:ident $(as $raw:literal)?: $outer:ident $(<$inner:ident>)? $(= $default:expr)?,)+
        }
        $(computed {
            $($(#[doc = $computed_about:literal])* $computed:ident: $computed_outer:ident $(<$computed_inner:ident>)? = $joined:expr,)+
        })?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $record {
            /// Assigned by the server in order of creation, or set by an import.
            pub id: uuid::Uuid,
            $($(#[doc = $field_about])* $(#[serde(rename = $raw)])? pub $field: $outer $(<$inner>)?,)+
            /// When the record was created.
            pub created_at: $crate::values::Time,
            /// When the record was last updated.
            pub updated_at: $crate::values::Time,
            $($($(#[doc = $computed_about])* #[serde(default)] pub $computed: $computed_outer $(<$computed_inner>)?,)+)?
        }

        #[doc = concat!("The values that a request or a file sets in a [`", stringify!($record), "`].")]
        #[derive(Debug, Clone, Default)]
        pub struct $changes {
            $(#[doc = concat!("See [`", stringify!($record), "::", stringify!($field), "`].")]
            pub $field: $crate::record!(@change $mode $outer $($inner)?),)+
        }

        impl $crate::records::Fields for $record {
            type Changes = $changes;

            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] =
                &["id", $($crate::record!(@name $field $($raw)?),)+ "created_at", "updated_at"];
            const COLUMN_LIST: &'static str =
                concat!("id, ", $($crate::record!(@name $field $($raw)?), ", ",)+ "created_at, updated_at");
            const JOINED: &'static [&'static str] = &[$($(stringify!($computed)),+)?];
            const FIELDS: &'static [$crate::query::ListField] = {
                use $crate::query::ListField;
                use $crate::values::kind::{Compared, Kind};
                &[
                    ListField::new("id", Kind::Id),
                    $(ListField::new($crate::record!(@name $field $($raw)?), <$outer $(<$inner>)? as Compared>::KIND),)+
                    ListField::new("created_at", Kind::Time),
                    ListField::new("updated_at", Kind::Time),
                    $($(ListField::joined(
                        stringify!($computed),
                        <$computed_outer $(<$computed_inner>)? as Compared>::KIND,
                        $joined,
                    ),)+)?
                ]
            };

            fn columns() -> $crate::query::Columns {
                static SELECTED: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
                    $crate::query::selection($table, $record::COLUMN_LIST, $record::FIELDS)
                });
                $crate::query::Columns { stored: $record::COLUMN_LIST, selected: &SELECTED }
            }

            fn properties() -> Vec<$crate::values::json_schema::Property> {
                use $crate::values::json_schema::{Mode, Property};
                vec![
                    Property::new::<uuid::Uuid>("id", "Assigned by the server in order of creation, or set by an import.", Mode::Fixed),
                    $(Property::new::<$outer $(<$inner>)?>(
                        $crate::record!(@name $field $($raw)?),
                        concat!($($field_about),*),
                        $crate::record!(@mode $mode $($default)?),
                    ),)+
                    Property::new::<$crate::values::Time>("created_at", "When the record was created.", Mode::Fixed),
                    Property::new::<$crate::values::Time>("updated_at", "When the record was last updated.", Mode::Fixed),
                    $($(Property::new::<$computed_outer $(<$computed_inner>)?>(
                        stringify!($computed),
                        concat!($($computed_about),*),
                        Mode::Fixed,
                    ),)+)?
                ]
            }

            fn statements() -> &'static $crate::records::Statements {
                static STATEMENTS: std::sync::LazyLock<$crate::records::Statements> =
                    std::sync::LazyLock::new($crate::records::Statements::new::<$record>);
                &STATEMENTS
            }

            fn id(&self) -> uuid::Uuid {
                self.id
            }

            fn created_at(&self) -> $crate::values::Time {
                self.created_at
            }

            fn updated_at(&self) -> $crate::values::Time {
                self.updated_at
            }

            fn touch(&mut self, updated_at: $crate::values::Time) {
                self.updated_at = updated_at;
            }

            fn read(mut body: $crate::values::json_body::Object, present: Option<&Self>) -> $crate::error::Result<$changes> {
                if let Some(present) = present {
                    $(body.drop_unchanged($crate::record!(@name $field $($raw)?), &present.$field);)+
                }
                let mut changes = $changes {
                    $($field: $crate::record!(@read $mode body, $crate::record!(@name $field $($raw)?), present, $field),)+
                };
                if let Err((field, fault)) = <Self as $crate::records::Record>::compose(&mut changes, present) {
                    body.refuse(fault.of(field));
                }
                $($crate::record!(@check $mode body, $crate::record!(@name $field $($raw)?), present, changes.$field);)+
                body.read_only("id", present.map(|present| &present.id));
                body.read_only("created_at", present.map(|present| &present.created_at));
                body.read_only("updated_at", present.map(|present| &present.updated_at));
                for name in <Self as $crate::records::Record>::COMPUTED {
                    body.computed(name, present.is_some());
                }
                body.finish()?;
                Ok(changes)
            }

            fn new(id: uuid::Uuid, created_at: $crate::values::Time, changes: $changes) -> Option<Self> {
                Some(Self {
                    id,
                    $($field: $crate::record!(@new $mode changes.$field $(, $default)?),)+
                    created_at,
                    updated_at: created_at,
                    $($($computed: Default::default(),)+)?
                })
            }

            fn apply(&mut self, changes: $changes) {
                $($crate::record!(@apply $mode self.$field, changes.$field $(, $default)?);)+
            }

            fn set(changes: &mut $changes, field: &str, text: &str) -> Result<(), $crate::values::Fault> {
                match field {
                    $($crate::record!(@name $field $($raw)?) => {
                        changes.$field = $crate::record!(@set $mode $crate::values::Field::from_text(text)?);
                    })+
                    _ => return Err($crate::values::Fault::new("unknown", "is not a field")),
                }
                Ok(())
            }

            fn sets(changes: &$changes, field: &str) -> bool {
                match field {
                    $($crate::record!(@name $field $($raw)?) => $crate::record!(@sets $mode changes.$field),)+
                    _ => false,
                }
            }

            fn difference(&self, later: &Self) -> $crate::error::Result<$crate::records::Difference> {
                let mut difference = $crate::records::Difference::default();
                $(if self.$field != later.$field {
                    difference.add($crate::record!(@name $field $($raw)?), &self.$field, &later.$field)?;
                })+
                Ok(difference)
            }

            fn bind<'q>(&'q self, query: $crate::records::Statement<'q>) -> $crate::records::Statement<'q> {
                query.bind(self.id)$(.bind(&self.$field))+.bind(self.created_at).bind(self.updated_at)
            }

            fn cells(&self, cells: &mut impl $crate::values::cell::Cells) {
                use $crate::values::cell::Cell;
                self.id.write(cells);
                $(self.$field.write(cells);)+
                self.created_at.write(cells);
                self.updated_at.write(cells);
            }

            $(fn computed_cells(&self, cells: &mut impl $crate::values::cell::Cells) {
                $($crate::values::cell::Cell::write(&self.$computed, cells);)+
            })?
        }

        // The columns of a record are the first ones of each statement that reads it.
        impl<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> for $record {
            fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                let mut columns = $crate::records::InOrder::new(row);
                Ok(Self {
                    id: columns.read("id")?,
                    $($field: columns.read($crate::record!(@name $field $($raw)?))?,)+
                    created_at: columns.read("created_at")?,
                    updated_at: columns.read("updated_at")?,
                    $($($computed: columns.read(stringify!($computed))?,)+)?
                })
            }
        }

        impl utoipa::PartialSchema for $record {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::records::schema::answer::<Self>(concat!($($about),*))
            }
        }

        impl utoipa::ToSchema for $record {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($record).into()
            }
        }
    };

    (@mode required) => { Mode::Required };
    (@mode composed) => { Mode::Composed };
    (@mode optional) => { Mode::Optional };
    (@mode defaulted $default:expr) => { Mode::Defaulted(serde_json::to_value($default).unwrap_or_default()) };
    (@mode $mode:ident $($default:expr)?) => { Mode::Fixed };

    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $raw:literal) => { $raw };

    (@change required $type:ident) => { Option<$type> };
    (@change parent $type:ident) => { Option<$type> };
    (@change composed $type:ident) => { $crate::values::patch::Patch<$type> };
    (@change kept $type:ident) => { $crate::values::patch::Patch<$type> };
    (@change defaulted $type:ident) => { $crate::values::patch::Patch<$type> };
    (@change $mode:ident Option $type:ident) => { $crate::values::patch::Patch<$type> };

    (@read required $body:ident, $name:expr, $present:ident, $field:ident) => {
        if $present.is_some() { $body.present($name) } else { $body.required($name) }
    };
    (@read parent $body:ident, $name:expr, $present:ident, $field:ident) => {{
        $body.read_only($name, $present.map(|present| &present.$field));
        None
    }};
    (@read fixed $body:ident, $name:expr, $present:ident, $field:ident) => {{
        $body.read_only($name, $present.map(|present| &present.$field));
        $crate::values::patch::Patch::Keep
    }};
    (@read kept $body:ident, $name:expr, $present:ident, $field:ident) => {{
        $body.read_only($name, $present.map(|present| &present.$field));
        $crate::values::patch::Patch::Keep
    }};
    (@read $mode:ident $body:ident, $name:expr, $present:ident, $field:ident) => { $body.take($name) };

    (@check composed $body:ident, $name:expr, $present:ident, $change:expr) => {
        if !$change.is_value_for($present.is_some()) {
            $body.require($name);
        }
    };
    (@check $mode:ident $body:ident, $name:expr, $present:ident, $change:expr) => {};

    (@new required $change:expr) => { $change? };
    (@new parent $change:expr) => { $change? };
    (@new composed $change:expr) => { $change.into_value()? };
    (@new kept $change:expr, $default:expr) => {{
        let mut value = $default;
        $change.apply_or(&mut value, $default);
        value
    }};
    (@new defaulted $change:expr, $default:expr) => { $crate::record!(@new kept $change, $default) };
    (@new $mode:ident $change:expr) => {{
        let mut value = None;
        $change.apply(&mut value);
        value
    }};

    (@apply required $to:expr, $change:expr) => { if let Some(value) = $change { $to = value; } };
    (@apply parent $to:expr, $change:expr) => { if let Some(value) = $change { $to = value; } };
    (@apply composed $to:expr, $change:expr) => { if let Some(value) = $change.into_value() { $to = value; } };
    (@apply kept $to:expr, $change:expr, $default:expr) => { $change.apply_or(&mut $to, $default) };
    (@apply defaulted $to:expr, $change:expr, $default:expr) => { $change.apply_or(&mut $to, $default) };
    (@apply $mode:ident $to:expr, $change:expr) => { $change.apply(&mut $to) };

    (@sets required $change:expr) => { $change.is_some() };
    (@sets parent $change:expr) => { $change.is_some() };
    (@sets $mode:ident $change:expr) => { matches!($change, $crate::values::patch::Patch::Set(_)) };

    (@set required $value:expr) => { Some($value) };
    (@set parent $value:expr) => { Some($value) };
    (@set $mode:ident $value:expr) => { $crate::values::patch::Patch::Set($value) };
}

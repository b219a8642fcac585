//! Enumerations that are strings outside the program.

/// An enumeration defined by [`string_enum!`](crate::string_enum).
pub trait StringEnum: Copy + PartialEq + 'static {
    /// Every value, in its natural order.
    const VALUES: &'static [Self];

    /// The value as its word.
    fn word(self) -> &'static str;
}

/// Defines an enumeration whose values are strings in JSON, CSV and SQL.
#[macro_export]
macro_rules! string_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $about:literal])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $about])* $variant),+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The string of every value, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The string of the value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value with this string.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl $crate::values::string_enum::StringEnum for $name {
            const VALUES: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        }

        impl $crate::values::Field for $name {
            fn from_text(text: &str) -> Result<Self, $crate::values::Fault> {
                Self::from_word(text).ok_or_else(|| {
                    $crate::values::Fault::new("invalid", concat!("must be one of:" $(, " ", $word)+))
                })
            }
        }

        impl $crate::values::kind::Compared for $name {
            const KIND: $crate::values::kind::Kind = $crate::values::kind::Kind::Word(Self::WORDS);
        }

        impl $crate::values::cell::Cell for $name {
            fn write(&self, cells: &mut impl $crate::values::cell::Cells) {
                cells.text(self.as_str());
            }
        }

        impl $crate::values::json_schema::Shape for $name {
            fn shape() -> utoipa::openapi::Object {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .enum_values(Some(Self::WORDS.iter().copied()))
                    .description(Some(concat!($("- `", $word, "`:", $($about,)* "\n"),+).trim_end()))
                    .build()
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <Self as $crate::values::json_schema::Shape>::shape().into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::from_word(&word).ok_or_else(|| serde::de::Error::unknown_variant(&word, Self::WORDS))
            }
        }

        impl sqlx::Type<sqlx::Postgres> for $name {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <str as sqlx::Type<sqlx::Postgres>>::type_info()
            }
            fn compatible(ty: &sqlx::postgres::PgTypeInfo) -> bool {
                <str as sqlx::Type<sqlx::Postgres>>::compatible(ty)
            }
        }

        impl sqlx::Encode<'_, sqlx::Postgres> for $name {
            fn encode_by_ref(&self, buf: &mut sqlx::postgres::PgArgumentBuffer) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                <&str as sqlx::Encode<sqlx::Postgres>>::encode_by_ref(&self.as_str(), buf)
            }
        }

        impl sqlx::Decode<'_, sqlx::Postgres> for $name {
            fn decode(value: sqlx::postgres::PgValueRef<'_>) -> Result<Self, sqlx::error::BoxDynError> {
                let word = <&str as sqlx::Decode<sqlx::Postgres>>::decode(value)?;
                Self::from_word(word).ok_or_else(|| format!(concat!(stringify!($name), " has no value {:?}"), word).into())
            }
        }
    };
}

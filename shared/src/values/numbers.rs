//! Number types of record fields.

use std::fmt;

use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::values::cell::{Cell, Cells};

use super::{Fault, Field, serialize_number};

/// An amount of money, zero or more, in a currency that the caller knows. It has at most four decimal
/// places and is below one hundred billion, so that JSON and SQL represent it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct Money(Decimal);

impl Money {
    const PLACES: u32 = 4;
    const END: i64 = 100_000_000_000;

    fn new(amount: Decimal) -> Result<Self, Fault> {
        if amount.is_sign_negative() && !amount.is_zero() || amount >= Decimal::from(Self::END) {
            return Err(Self::out_of_range());
        }
        let amount = amount.normalize();
        if amount.scale() > Self::PLACES {
            return Err(Self::too_precise());
        }
        Ok(Self(amount.abs()))
    }

    /// The fault of a text that is not a [`Decimal`]: a number that is too large or too precise, or no number.
    fn fault_of(text: &str) -> Fault {
        match f64::from_text(text) {
            Ok(number) if number < 0.0 || number >= Self::END as f64 => Self::out_of_range(),
            Ok(_) => Self::too_precise(),
            Err(fault) => fault,
        }
    }

    fn out_of_range() -> Fault {
        Fault::new("out_of_range", "must be from 0 to 99999999999.9999")
    }

    fn too_precise() -> Fault {
        Fault::new("invalid", "must have at most 4 decimal places")
    }
}

impl Field for Money {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        let amount = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        Self::new(amount.map_err(|_| Self::fault_of(text))?)
    }

    /// Reads the decimal number as it is written in JSON, not the nearest binary number.
    fn from_json(value: Value) -> Result<Self, Fault> {
        match value {
            Value::Number(number) => Self::from_text(&number.to_string()),
            _ => Err(Fault::new("invalid", "must be a number")),
        }
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.0.to_f64().unwrap_or_default(), serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let amount = Decimal::from_f64(number).ok_or_else(|| serde::de::Error::custom("not an amount of money"))?;
        Self::new(amount).map_err(|fault| serde::de::Error::custom(fault.message))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.normalize(), f)
    }
}

impl Cell for Money {
    fn write(&self, cells: &mut impl Cells) {
        cells.number(self);
    }
}

/// A quantity: a whole number from 1 to 2,147,483,647.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Quantity(i64);

impl Quantity {
    /// One piece.
    pub const ONE: Self = Self(1);
    const MAX: i64 = i32::MAX as i64;

    fn new(number: f64) -> Result<Self, Fault> {
        match number {
            _ if number.fract() != 0.0 => Err(Fault::new("invalid", "must be a whole number")),
            1.0..=2_147_483_647.0 => Ok(Self(number as i64)),
            _ => Err(Fault::new("out_of_range", format!("must be from 1 to {}", Self::MAX))),
        }
    }
}

impl Field for Quantity {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        Self::new(f64::from_text(text)?)
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        Self::new(f64::from_json(value)?)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Cell for Quantity {
    fn write(&self, cells: &mut impl Cells) {
        cells.number(self);
    }
}

/// A rating: a whole number from 1 to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Rating(i16);

impl Rating {
    /// The rating as a number from 1 to 5.
    pub fn get(self) -> i16 {
        self.0
    }

    fn new(number: f64) -> Result<Self, Fault> {
        match number {
            _ if number.fract() != 0.0 => Err(Fault::new("invalid", "must be a whole number")),
            1.0..=5.0 => Ok(Self(number as i16)),
            _ => Err(Fault::new("out_of_range", "must be from 1 to 5")),
        }
    }
}

impl Field for Rating {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        Self::new(f64::from_text(text)?)
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        Self::new(f64::from_json(value)?)
    }
}

impl fmt::Display for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Cell for Rating {
    fn write(&self, cells: &mut impl Cells) {
        cells.number(self);
    }
}

macro_rules! counts {
    ($($type:ty),+) => {
        $(impl Field for $type {
            const IS_STRING: bool = false;

            fn from_text(text: &str) -> Result<Self, Fault> {
                text.parse().map_err(|_| Fault::new("invalid", "must be a whole number"))
            }

            fn from_json(value: Value) -> Result<Self, Fault> {
                Self::from_text(&value.to_string())
            }
        }

        impl Cell for $type {
            fn write(&self, cells: &mut impl Cells) {
                cells.number(self);
            }
        })+
    };
}

counts!(i16, i64);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_keeps_the_number_that_was_written() {
        for (json, back) in [
            (json!(10000.00), json!(10000)),
            (json!(0.1), json!(0.1)),
            (json!(-0.0), json!(0)),
            (json!(1e3), json!(1000)),
            (json!(99_999_999_999.999_9), json!(99_999_999_999.999_9)),
        ] {
            let money = Money::from_json(json).unwrap();
            assert_eq!(serde_json::to_value(money).unwrap(), back);
            assert_eq!(serde_json::from_value::<Money>(back).unwrap(), money);
        }
        assert_eq!(Money::from_text("7.50").unwrap().to_string(), "7.5");
    }

    #[test]
    fn an_invalid_amount_is_rejected_with_the_reason() {
        let code = |json| Money::from_json(json).unwrap_err().code;
        assert_eq!(code(json!(-1)), "out_of_range");
        assert_eq!(code(json!(1e11)), "out_of_range");
        assert_eq!(code(json!(1e308)), "out_of_range");
        assert_eq!(code(json!(-1e308)), "out_of_range");
        let message = |text| Money::from_text(text).unwrap_err().message;
        for text in ["1e-300", "0.00000000000000000000000000000000000001", "0.00001"] {
            assert_eq!(message(text), "must have at most 4 decimal places", "{text}");
        }
        assert_eq!(message("much"), "must be a number");
        assert_eq!(code(json!(0.00001)), "invalid");
        assert_eq!(code(json!("7")), "invalid");
    }

    #[test]
    fn a_quantity_is_whole_and_positive() {
        assert_eq!(serde_json::to_value(Quantity::from_json(json!(2.0)).unwrap()).unwrap(), json!(2));
        for (json, code) in [
            (json!(0), "out_of_range"),
            (json!(1.5), "invalid"),
            (json!("2"), "invalid"),
            (json!(1e18), "out_of_range"),
        ] {
            assert_eq!(Quantity::from_json(json).unwrap_err().code, code);
        }
    }

    #[test]
    fn a_rating_is_a_whole_number_from_1_to_5() {
        assert_eq!([json!(1), json!(5.0)].map(|json| Rating::from_json(json).unwrap().get()), [1, 5]);
        let wrong =
            [(json!(0), "out_of_range"), (json!(6), "out_of_range"), (json!(4.5), "invalid"), (json!("5"), "invalid")];
        for (json, code) in wrong {
            assert_eq!(Rating::from_json(json).unwrap_err().code, code);
        }
    }
}

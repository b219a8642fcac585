//! The names of people, whole and in parts. The whole name is always there; it is made of the parts
//! unless it is given.

use crate::records::FieldFault;
use crate::values::patch::Patch;
use crate::values::{Email, Fault, Field, Name};

/// A name as it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameParts<'a> {
    pub name: &'a Name,
    pub first: Option<&'a Name>,
    pub last: Option<&'a Name>,
}

impl NameParts<'_> {
    fn is_made_of_its_parts(&self) -> bool {
        Name::join(self.first, self.last).is_ok_and(|joined| joined.as_ref() == Some(self.name))
    }
}

/// Completes a change of a name. A new name alone clears the parts. A new part makes the name anew, if
/// it was made of the parts or there is none.
///
/// # Errors
/// The fault of a name that is too long.
pub(super) fn compose(
    name: &mut Patch<Name>,
    (first, last): (&mut Patch<Name>, &mut Patch<Name>),
    present: Option<NameParts<'_>>,
) -> Result<(), FieldFault> {
    let has_part = *first != Patch::Keep || *last != Patch::Keep;
    if let Some(new) = name.value() {
        if !has_part && present.is_some_and(|present| present.name != new) {
            (*first, *last) = (Patch::Clear, Patch::Clear);
        }
        return Ok(());
    }
    let stays = *name == Patch::Keep && present.is_some_and(|present| !present.is_made_of_its_parts());
    if !has_part || stays {
        return Ok(());
    }
    let (first, last) = (first.or(present.and_then(|name| name.first)), last.or(present.and_then(|name| name.last)));
    let joined = Name::join(first, last).map_err(|Fault { code, message }| {
        ("name", Fault::new(code, format!("{message}; it is made of first_name and last_name")))
    })?;
    if let Some(joined) = joined {
        *name = Patch::Set(joined);
    }
    Ok(())
}

/// The fields of which a file needs one to create people.
pub(super) const NAMED_BY: &[&str] = &["name", "first_name", "last_name", "company"];

/// Names a new record of a file without names: by the company, else by the address before the `@`.
pub(super) fn complete(name: &mut Patch<Name>, company: Option<&Name>, email: Option<&Email>) {
    if name.value().is_some() {
        return;
    }
    let local = || {
        let (local, _) = email?.as_ref().split_once('@')?;
        Name::from_text(local).ok()
    };
    if let Some(found) = company.cloned().or_else(local) {
        *name = Patch::Set(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    /// Applies a change to a name, of which an empty part is `None`.
    fn changed(present: Option<[&str; 3]>, change: [Option<&str>; 3]) -> Result<[String; 3], &'static str> {
        let part = |text: &str| (!text.is_empty()).then(|| name(text));
        let patch = |text: Option<&str>| match text.map(part) {
            None => Patch::Keep,
            Some(None) => Patch::Clear,
            Some(Some(name)) => Patch::Set(name),
        };
        let [mut whole, mut first, mut last] = change.map(patch);
        let stored = present.map(|present| present.map(part));
        let parts = stored.as_ref().map(|[name, first, last]| NameParts {
            name: name.as_ref().unwrap(),
            first: first.as_ref(),
            last: last.as_ref(),
        });
        compose(&mut whole, (&mut first, &mut last), parts).map_err(|(_, fault)| fault.code)?;
        let stored = stored.unwrap_or_default();
        let after = [&whole, &first, &last].into_iter().zip(&stored).map(|(patch, present)| patch.or(present.as_ref()));
        let texts: Vec<String> =
            after.map(|name| name.map_or_else(String::new, |name| name.as_ref().to_owned())).collect();
        Ok(texts.try_into().unwrap())
    }

    #[test]
    fn a_name_and_its_parts_agree() {
        let (ada, made, own) = ("Ada", ["Ada Byron", "Ada", "Byron"], ["Lady L.", "Ada", "Byron"]);
        for (present, change, after) in [
            (None, [None, Some(ada), Some("Byron")], made),
            (None, [None, Some(ada), None], [ada, ada, ""]),
            (None, [Some(""), None, Some("Byron")], ["Byron", "", "Byron"]),
            (None, [Some("Lady L."), Some(ada), Some("Byron")], own),
            (None, [Some(ada), None, None], [ada, "", ""]),
            // A new name alone clears the parts, and the same name does not.
            (Some(made), [Some("Lady L."), None, None], ["Lady L.", "", ""]),
            (Some(made), [Some("Ada Byron"), None, None], made),
            (Some(made), [Some("Lady L."), None, Some("King")], ["Lady L.", ada, "King"]),
            // A new part makes the name anew, unless it is a name of its own.
            (Some(made), [None, None, Some("King")], ["Ada King", ada, "King"]),
            (Some(made), [None, Some(""), None], ["Byron", "", "Byron"]),
            (Some(own), [None, None, Some("King")], ["Lady L.", ada, "King"]),
            (Some(own), [Some(""), None, Some("King")], ["Ada King", ada, "King"]),
            (Some(["Ada Byron", "", ""]), [None, Some(ada), None], ["Ada Byron", ada, ""]),
            // Without parts, nothing makes a name.
            (Some(made), [None, Some(""), Some("")], ["Ada Byron", "", ""]),
            (Some(made), [None, None, None], made),
        ] {
            assert_eq!(changed(present, change), Ok(after.map(str::to_owned)), "{present:?} {change:?}");
        }
        let long = "x".repeat(150);
        assert_eq!(changed(None, [None, Some(&long), Some(&long)]), Err("too_long"));
    }
}

//! Extracts the SQL statements from the source.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// A statement in the source; `{}` stands for text that is only known at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub file: String,
    pub text: String,
}

impl Statement {
    /// Whether the whole text is known.
    pub fn is_whole(&self) -> bool {
        let has_parts = self.text.contains('{') && !self.text.contains("'{}'");
        // A value or another part follows.
        let goes_on = self.text.trim_end().ends_with(['=', ',', '(']);
        !has_parts && !goes_on
    }
}

/// These statements read the catalog of an extension that this database may not have.
const OF_AN_EXTENSION: [&str; 3] = ["platform/distribute.rs", "doctor/distribution.rs", "platform/db/nodes.rs"];

/// The statements in the sources of `shared`, without its unit tests.
pub fn statements() -> Vec<Statement> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/src");
    let sources: Vec<(String, TokenStream)> = files(&root)
        .into_iter()
        .filter(|path| !OF_AN_EXTENSION.iter().any(|file| path.ends_with(file)))
        .map(|path| {
            let source = fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
            (path.strip_prefix(&root).unwrap().display().to_string(), source.parse().unwrap())
        })
        .collect();
    let exported = sources.iter().flat_map(|(_, tokens)| Macros::read(tokens.clone()).exported(tokens.clone()));
    let exported: HashMap<String, Rule> = exported.collect();
    let mut all = Vec::new();
    for (file, tokens) in sources {
        let mut macros = Macros(exported.clone());
        macros.0.extend(Macros::read(tokens.clone()).0);
        let mut texts = Vec::new();
        macros.texts(tokens, &mut texts);
        let begins = ["SELECT ", "WITH ", "INSERT INTO ", "UPDATE ", "DELETE FROM "];
        let statements =
            texts.into_iter().filter(|text| begins.iter().any(|begin| text.trim_start().starts_with(begin)));
        all.extend(statements.map(|text| Statement { file: file.clone(), text }));
    }
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The parameters of a macro, and its body.
type Rule = (Vec<String>, Vec<TokenTree>);

/// The macros that expand to a part of a statement.
#[derive(Default)]
struct Macros(HashMap<String, Rule>);

impl Macros {
    fn read(tokens: TokenStream) -> Self {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut macros = Self::default();
        for window in tokens.windows(4) {
            let [TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Ident(name), TokenTree::Group(rules)] = window
            else {
                continue;
            };
            let rules: Vec<TokenTree> = rules.stream().into_iter().collect();
            if let (
                true,
                [TokenTree::Group(parameters), .., TokenTree::Group(body)]
                | [TokenTree::Group(parameters), .., TokenTree::Group(body), TokenTree::Punct(_)],
            ) = (*word == "macro_rules", rules.as_slice())
            {
                let parameters = parameters.stream().to_string();
                let parameters =
                    parameters.split('$').skip(1).map(|part| part.split(':').next().unwrap().trim().to_owned());
                macros.0.insert(name.to_string(), (parameters.collect(), body.stream().into_iter().collect()));
            }
        }
        macros
    }

    /// The macros that other files can use, by their names there: `use name;` and `use name as
    /// other;`.
    fn exported(&self, tokens: TokenStream) -> Vec<(String, Rule)> {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let names = tokens.windows(4).filter_map(|window| match window {
            [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Punct(_), _] if *word == "use" => {
                Some((name, name))
            }
            [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Ident(_), TokenTree::Ident(other)]
                if *word == "use" =>
            {
                Some((name, other))
            }
            _ => None,
        });
        let rule = |name: &proc_macro2::Ident| self.0.get(&name.to_string()).cloned();
        names.filter_map(|(name, other)| Some((other.to_string(), rule(name)?))).collect()
    }

    /// All string literals in these tokens, in order.
    fn texts(&self, tokens: TokenStream, texts: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut i = 0;
        while i < tokens.len() {
            match &tokens[i..] {
                [TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Ident(_), TokenTree::Group(_), ..]
                    if *word == "macro_rules" =>
                {
                    i += 4;
                }
                [TokenTree::Ident(name), TokenTree::Punct(mark), TokenTree::Group(arguments), ..]
                    if mark.as_char() == '!' && (*name == "concat" || self.0.contains_key(&name.to_string())) =>
                {
                    texts.push(self.expand(&name.to_string(), arguments.stream(), &HashMap::new()));
                    i += 3;
                }
                [TokenTree::Group(group), ..] => {
                    self.texts(group.stream(), texts);
                    i += 1;
                }
                [TokenTree::Literal(literal), ..] => {
                    texts.extend(text(&literal.to_string()));
                    i += 1;
                }
                _ => i += 1,
            }
        }
    }

    /// Expands a macro with its arguments, which may name parameters of the enclosing macro.
    fn expand(&self, name: &str, arguments: TokenStream, given: &HashMap<String, String>) -> String {
        let arguments: Vec<TokenTree> = arguments.into_iter().collect();
        let arguments = arguments.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','));
        let arguments: Vec<String> = arguments.map(|tokens| self.expand_tokens(tokens, given)).collect();
        match self.0.get(name) {
            None => arguments.concat(),
            Some((parameters, body)) => {
                let given = parameters.iter().cloned().zip(arguments).collect();
                self.expand_tokens(body, &given)
            }
        }
    }

    fn expand_tokens(&self, tokens: &[TokenTree], given: &HashMap<String, String>) -> String {
        match tokens {
            [] => String::new(),
            [TokenTree::Literal(literal)] => text(&literal.to_string()).unwrap_or_default(),
            [TokenTree::Punct(mark), TokenTree::Ident(name)] if mark.as_char() == '$' => {
                given.get(&name.to_string()).cloned().unwrap_or_default()
            }
            // By its name or its path.
            [.., TokenTree::Ident(name), TokenTree::Punct(mark), TokenTree::Group(arguments)]
                if mark.as_char() == '!' && (*name == "concat" || self.0.contains_key(&name.to_string())) =>
            {
                self.expand(&name.to_string(), arguments.stream(), given)
            }
            _ => "{}".to_owned(),
        }
    }
}

/// The text of a string literal.
fn text(literal: &str) -> Option<String> {
    let lit: syn::LitStr = syn::parse_str(literal).ok()?;
    Some(lit.value())
}

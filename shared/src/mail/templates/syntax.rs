//! The subset of Jinja for templates, checked before the engine parses a template.
//!
//! The engine parses recursively, and some of its operators cost more than the fuel they consume.
//! So this parser runs first: it limits the depth of what the engine has to parse, compile and
//! drop, and it accepts only operations whose cost is charged. It reads tokens exactly as the
//! engine does, and rejects everything else.

mod tokens;

use tokens::{Tag, Token};

/// The depth of expressions. Each operator, filter and attribute of a chain adds one.
const MAX_DEPTH: usize = 50;
/// The depth of `if` and `for`.
const MAX_BLOCKS: usize = 16;
/// The number of `elif` in one `if`.
const MAX_BRANCHES: usize = 50;

pub(super) const FILTERS: &[&str] = &[
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "first",
    "float",
    "groupby",
    "int",
    "join",
    "last",
    "length",
    "lower",
    "map",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
];
pub(super) const TESTS: &[&str] = &[
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "ge",
    "gt",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// Filters whose result is a number, which is cheap to compare.
const NUMERIC: &[&str] = &["abs", "count", "float", "int", "length", "round"];

/// An error in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The offset in bytes.
    at: usize,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// Checks that a template may be compiled. The error is a sentence that begins with its line.
pub(super) fn check(source: &str) -> Result<(), String> {
    check_tags(source).map_err(|Fault { at, message }| {
        let line = source.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: {message}")
    })
}

fn check_tags(source: &str) -> Result<(), Fault> {
    let mut blocks = Vec::new();
    let mut rest = tokens::Source::new(source);
    while let Some(Tag { is_block, at, tokens, end }) = rest.next_tag()? {
        let mut parser = Parser { tokens: &tokens, index: 0, depth: 0, end };
        if is_block {
            parser.statement(&mut blocks, at)?;
        } else {
            parser.expression()?;
        }
        parser.finish()?;
    }
    match blocks.pop() {
        Some(Block { at, is_loop, .. }) => {
            Err(Fault::new(at, format!("this {} is not closed", if is_loop { "for" } else { "if" })))
        }
        None => Ok(()),
    }
}

/// An open block.
struct Block {
    at: usize,
    is_loop: bool,
    has_else: bool,
    branches: usize,
}

/// The properties of a parsed expression.
#[derive(Debug, Clone, Copy)]
struct Shape {
    depth: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, a number, `true`, `false` or `none` in the template's source.
    Literal,
    /// A list of literals.
    List,
    /// An expression that yields a number or fails.
    Number,
    Any,
}

impl Kind {
    fn is_cheap(self) -> bool {
        matches!(self, Self::Literal | Self::Number)
    }
}

struct Parser<'a> {
    tokens: &'a [(usize, Token<'a>)],
    /// The index of the next token.
    index: usize,
    depth: usize,
    /// The offset of the tag's end.
    end: usize,
}

type Parsed = Result<Shape, Fault>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.index).map(|(_, token)| *token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.index).map_or(self.end, |(at, _)| *at)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.index += usize::from(token.is_some());
        token
    }

    fn eats(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        self.index += usize::from(found);
        found
    }

    fn expect(&mut self, token: Token<'static>) -> Result<(), Fault> {
        if self.eats(token) { Ok(()) } else { Err(self.unexpected(&format!("`{token}`"))) }
    }

    fn name(&mut self) -> Result<&'a str, Fault> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.index += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = self.peek().map_or_else(|| "the end of the tag".to_owned(), |token| format!("`{token}`"));
        Fault::new(self.at(), format!("unexpected {found}, expected {expected}"))
    }

    fn finish(&self) -> Result<(), Fault> {
        if self.index == self.tokens.len() { Ok(()) } else { Err(self.unexpected("the end of the tag")) }
    }

    fn node(&self, depth: usize, kind: Kind) -> Parsed {
        if depth > MAX_DEPTH {
            return Err(Fault::new(self.at(), format!("this expression is nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(Shape { depth, kind })
    }

    /// Parses a nested expression, and limits the depth of the recursion.
    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        self.node(self.depth, Kind::Any)?;
        let shape = parse(self);
        self.depth -= 1;
        shape
    }

    fn statement(&mut self, blocks: &mut Vec<Block>, at: usize) -> Result<(), Fault> {
        let keyword = self.name()?;
        match keyword {
            "if" => {
                self.disjunction()?;
                open(blocks, Block { at, is_loop: false, has_else: false, branches: 0 })
            }
            "for" => {
                self.targets()?;
                self.expect(Token::Name("in"))?;
                self.disjunction()?;
                if self.eats(Token::Name("if")) {
                    self.expression()?;
                }
                open(blocks, Block { at, is_loop: true, has_else: false, branches: 0 })
            }
            "elif" => match blocks.last_mut() {
                Some(Block { is_loop: false, has_else: false, branches, .. }) => {
                    *branches += 1;
                    if *branches > MAX_BRANCHES {
                        return Err(Fault::new(at, format!("an if must not have more than {MAX_BRANCHES} elif")));
                    }
                    self.disjunction().map(|_| ())
                }
                _ => Err(Fault::new(at, "this elif has no matching if")),
            },
            "else" => match blocks.last_mut() {
                Some(Block { has_else, .. }) if !*has_else => {
                    *has_else = true;
                    Ok(())
                }
                _ => Err(Fault::new(at, "this else has no matching block")),
            },
            "endif" | "endfor" => match blocks.pop() {
                Some(Block { is_loop, .. }) if is_loop == (keyword == "endfor") => Ok(()),
                _ => Err(Fault::new(at, format!("this {keyword} has no matching block"))),
            },
            "set" => {
                self.name()?;
                self.expect(Token::Operator("="))?;
                self.expression().map(|_| ())
            }
            other => Err(Fault::new(at, format!("unknown statement {other}; available: if for set"))),
        }
    }

    fn targets(&mut self) -> Result<(), Fault> {
        self.name()?;
        while self.eats(Token::Operator(",")) {
            self.name()?;
        }
        Ok(())
    }

    fn expression(&mut self) -> Parsed {
        self.nested(|parser| {
            let mut shape = parser.disjunction()?;
            while parser.eats(Token::Name("if")) {
                let test = parser.disjunction()?;
                let mut depth = shape.depth.max(test.depth);
                if parser.eats(Token::Name("else")) {
                    depth = depth.max(parser.expression()?.depth);
                }
                shape = parser.node(depth + 1, Kind::Any)?;
            }
            Ok(shape)
        })
    }

    fn disjunction(&mut self) -> Parsed {
        self.chain(&["or"], Self::conjunction)
    }

    fn conjunction(&mut self) -> Parsed {
        self.chain(&["and"], Self::negation)
    }

    fn chain(&mut self, words: &[&str], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = operand(self)?;
        while words.iter().any(|word| self.eats(Token::Name(word))) {
            let right = operand(self)?;
            left = self.node(left.depth.max(right.depth) + 1, Kind::Any)?;
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed {
        if !self.eats(Token::Name("not")) {
            return self.comparison();
        }
        self.nested(|parser| {
            let shape = parser.negation()?;
            parser.node(shape.depth + 1, Kind::Any)
        })
    }

    /// One side of each comparison must be a literal or a number, since comparing two long texts is
    /// not charged.
    fn comparison(&mut self) -> Parsed {
        let mut left = self.sum()?;
        let mut depth = left.depth;
        loop {
            let at = self.at();
            let is_in = match self.peek() {
                Some(Token::Operator("==" | "!=" | "<" | "<=" | ">" | ">=")) => {
                    self.index += 1;
                    false
                }
                Some(Token::Name("in")) => {
                    self.index += 1;
                    true
                }
                Some(Token::Name("not")) => {
                    self.index += 1;
                    self.expect(Token::Name("in"))?;
                    true
                }
                _ => return Ok(Shape { depth, ..left }),
            };
            let right = self.sum()?;
            let is_cheap = if is_in {
                left.kind == Kind::Literal || right.kind == Kind::List
            } else {
                left.kind.is_cheap() || right.kind.is_cheap()
            };
            if !is_cheap {
                return Err(Fault::new(
                    at,
                    if is_in {
                        "`in` needs text such as `'a'` on its left or a list such as `['a', 'b']` on its right"
                    } else {
                        "one side of a comparison must be text or a number, such as `'lead'`, `3` or `items|length`"
                    },
                ));
            }
            depth = depth.max(right.depth) + 1;
            left = Shape { depth: right.depth, kind: right.kind };
            self.node(depth, Kind::Any)?;
            // The next operand of a chain is compared with this one.
            if !matches!(
                self.peek(),
                Some(Token::Operator("==" | "!=" | "<" | "<=" | ">" | ">=") | Token::Name("in" | "not"))
            ) {
                return self.node(depth, Kind::Any);
            }
        }
    }

    /// `+` adds numbers, and `~` joins text.
    fn sum(&mut self) -> Parsed {
        let mut left = self.concatenation()?;
        loop {
            let at = self.at();
            let plus = self.eats(Token::Operator("+"));
            if !plus && !self.eats(Token::Operator("-")) {
                return Ok(left);
            }
            let right = self.concatenation()?;
            if plus && !left.kind.is_cheap() && !right.kind.is_cheap() {
                return Err(Fault::new(at, "`+` adds numbers; use `~` to join text"));
            }
            left = self.node(left.depth.max(right.depth) + 1, if plus { Kind::Any } else { Kind::Number })?;
        }
    }

    fn concatenation(&mut self) -> Parsed {
        let mut left = self.product()?;
        while self.eats(Token::Operator("~")) {
            let right = self.product()?;
            left = self.node(left.depth.max(right.depth) + 1, Kind::Any)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            match self.peek() {
                Some(Token::Operator("/" | "//" | "%")) => self.index += 1,
                Some(Token::Operator(operator @ ("*" | "**"))) => {
                    return Err(Fault::new(self.at(), format!("the operator `{operator}` is not supported")));
                }
                _ => return Ok(left),
            }
            let right = self.unary()?;
            left = self.node(left.depth.max(right.depth) + 1, Kind::Number)?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let operand = self.signed()?;
        self.filters(operand)
    }

    /// An operand with its attributes and any minus signs before it.
    fn signed(&mut self) -> Parsed {
        if !self.eats(Token::Operator("-")) {
            return self.primary();
        }
        self.nested(|parser| {
            let shape = parser.signed()?;
            parser.node(shape.depth + 1, Kind::Number)
        })
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        match self.next() {
            Some(Token::Name("true" | "True" | "false" | "False" | "none" | "None") | Token::Number(_)) => {
                self.node(1, Kind::Literal)
            }
            Some(Token::Text(_)) => {
                // Adjacent texts are joined.
                while matches!(self.peek(), Some(Token::Text(_))) {
                    self.index += 1;
                }
                self.node(1, Kind::Literal)
            }
            Some(Token::Name(name)) => self.attributes(at, name, Shape { depth: 1, kind: Kind::Any }),
            Some(Token::Operator("(")) => {
                let shape = self.expression()?;
                self.expect(Token::Operator(")"))?;
                self.attributes(at, "(…)", Shape { depth: shape.depth + 1, ..shape })
            }
            Some(Token::Operator("[")) => self.list(at),
            _ => {
                self.index = self.index.saturating_sub(usize::from(self.index < self.tokens.len()));
                Err(Fault::new(at, "expected an expression"))
            }
        }
    }

    /// A list of literals, such as the one after `in`.
    fn list(&mut self, at: usize) -> Parsed {
        while !self.eats(Token::Operator("]")) {
            let item = self.nested(Self::signed)?;
            if !item.kind.is_cheap() {
                return Err(Fault::new(at, "a list may contain only text and numbers"));
            }
            if !self.eats(Token::Operator(",")) {
                self.expect(Token::Operator("]"))?;
                break;
            }
        }
        self.node(2, Kind::List)
    }

    /// The attributes and items of a value.
    fn attributes(&mut self, at: usize, name: &str, value: Shape) -> Parsed {
        let mut shape = value;
        loop {
            match self.peek() {
                Some(Token::Operator(".")) => {
                    self.index += 1;
                    match self.next() {
                        Some(Token::Name(_) | Token::Number(_)) => {}
                        _ => return Err(Fault::new(at, "expected the name of an attribute after the dot")),
                    }
                }
                Some(Token::Operator("[")) => {
                    self.index += 1;
                    match self.next() {
                        Some(Token::Text(_) | Token::Number(_)) => self.expect(Token::Operator("]"))?,
                        _ => return Err(Fault::new(at, "expected text such as ['name'], or a number, in brackets")),
                    }
                }
                Some(Token::Operator("(")) => return Err(Fault::new(at, format!("unknown function {name}"))),
                _ => return self.node(shape.depth, shape.kind),
            }
            shape = self.node(shape.depth + 1, Kind::Any)?;
        }
    }

    fn filters(&mut self, operand: Shape) -> Parsed {
        let mut shape = operand;
        loop {
            let at = self.at();
            if self.eats(Token::Operator("|")) {
                let name = self.name()?;
                known(at, "filter", name, FILTERS)?;
                let depth = if self.peek() == Some(Token::Operator("(")) { self.arguments()? } else { 0 };
                let kind = if NUMERIC.contains(&name) { Kind::Number } else { Kind::Any };
                shape = self.node(shape.depth.max(depth) + 1, kind)?;
            } else if self.eats(Token::Name("is")) {
                self.eats(Token::Name("not"));
                let name = self.name()?;
                known(at, "test", name, TESTS)?;
                let depth = self.test_argument()?;
                shape = self.node(shape.depth.max(depth) + 2, Kind::Any)?;
            } else {
                return Ok(shape);
            }
        }
    }

    /// Parses the argument of a test, which needs no parentheses, and returns its depth.
    fn test_argument(&mut self) -> Result<usize, Fault> {
        match self.peek() {
            Some(Token::Operator("(")) => self.arguments(),
            Some(Token::Name("and" | "or" | "else" | "is" | "if" | "not" | "in")) => Ok(0),
            Some(Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Operator("-" | "[")) => {
                Ok(self.signed()?.depth)
            }
            _ => Ok(0),
        }
    }

    fn arguments(&mut self) -> Result<usize, Fault> {
        self.expect(Token::Operator("("))?;
        let mut depth = 0;
        while !self.eats(Token::Operator(")")) {
            let mut argument = self.expression()?;
            if self.eats(Token::Operator("=")) {
                argument = self.expression()?;
            }
            depth = depth.max(argument.depth);
            if !self.eats(Token::Operator(",")) {
                self.expect(Token::Operator(")"))?;
                break;
            }
        }
        Ok(depth)
    }
}

fn open(blocks: &mut Vec<Block>, block: Block) -> Result<(), Fault> {
    if blocks.len() == MAX_BLOCKS {
        return Err(Fault::new(block.at, format!("if and for are nested more than {MAX_BLOCKS} levels deep")));
    }
    blocks.push(block);
    Ok(())
}

fn known(at: usize, kind: &str, name: &str, all: &[&str]) -> Result<(), Fault> {
    if all.contains(&name) {
        return Ok(());
    }
    Err(Fault::new(at, format!("unknown {kind} {name}; available: {}", all.join(" "))))
}

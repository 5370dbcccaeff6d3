//! The configuration as typed: a tree of keys in which every value knows where it was written.
//!
//! What comes in: the TOML file, then environment variables (`PINDROP__VENUE__BINANCE__REST_URL`), then `--set
//! key=value`; the later wins. What goes out: [`Section`]s that are read key by key. What always holds: a key
//! that nobody reads is an error, and so is every value of the wrong kind; all are reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Most keys that differ by typing errors are found within this many edits.
const SUGGESTION_EDITS_MAX: usize = 3;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file, on this line.
    File {
        /// The file, as named on the command line.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// On the command line.
    Set,
    /// Nowhere: the table exists because something under it does.
    Implied,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Set => write!(f, "--set"),
            Self::Implied => write!(f, "configuration"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// Which key, dotted.
    pub key: String,
    /// What is wrong and what was expected.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.origin, self.why);
        }
        write!(f, "{}: {}: {}", self.origin, self.key, self.why)
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    origin: Origin,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Integer(i64),
    Float(String),
    Bool(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// Dates: TOML has them, we do not.
    Other,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a point",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other => "a date",
        }
    }
}

impl Value {
    fn to_toml(&self) -> toml::Value {
        match self {
            Self::Text(text) => toml::Value::String(text.clone()),
            Self::Integer(i) => toml::Value::Integer(*i),
            Self::Float(text) => {
                text.parse().map_or_else(|_| toml::Value::String(text.clone()), toml::Value::Float)
            }
            Self::Bool(b) => toml::Value::Boolean(*b),
            Self::List(items) => {
                toml::Value::Array(items.iter().map(|i| i.value.to_toml()).collect())
            }
            Self::Table(table) => toml::Value::Table(
                table.iter().map(|(k, n)| (k.clone(), n.value.to_toml())).collect(),
            ),
            Self::Other => toml::Value::String(self.kind().to_owned()),
        }
    }
}

/// The whole tree.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Node,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: implied_table() }
    }
}

fn implied_table() -> Node {
    Node { origin: Origin::Implied, value: Value::Table(BTreeMap::new()) }
}

impl Tree {
    /// Parses the text of a TOML file.
    ///
    /// # Errors
    /// The first place where it is not TOML.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|e| ConfigError {
            origin: origin_at(path, text, e.span().unwrap_or(0..0)),
            key: String::new(),
            why: format!("not TOML: {}", e.message()),
        })?;
        let value = from_table(path, text, table.get_ref());
        Ok(Self { root: Node { origin: Origin::Implied, value } })
    }

    /// Overrides one key by `key=value`, as `--set` gives it. The value may be TOML (`5`, `true`, `["A"]`);
    /// anything else is text.
    ///
    /// # Errors
    /// When there is no `=`, or the key runs through something that is no table.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let Some((key, value)) = assignment.split_once('=') else {
            let why = format!("expected key=value, found {assignment:?}");
            return Err(ConfigError { origin: Origin::Set, key: String::new(), why });
        };
        self.put(key.trim().split('.'), key.trim(), value.trim(), Origin::Set)
    }

    /// Overrides one key by an environment variable; names that do not begin with `PINDROP__` are not ours.
    ///
    /// # Errors
    /// When the key runs through something that is no table.
    pub fn set_from_environment(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(path) = name.strip_prefix("PINDROP__") else { return Ok(()) };
        let key = path.split("__").map(str::to_lowercase).collect::<Vec<_>>().join(".");
        self.put(key.split('.'), &key, value, Origin::Environment(name.to_owned()))
    }

    fn put<'a>(
        &mut self,
        path: impl Iterator<Item = &'a str>,
        key: &str,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let mut node = &mut self.root;
        for part in path {
            if part.is_empty() {
                let why = "an empty part in the key".to_owned();
                return Err(ConfigError { origin, key: key.to_owned(), why });
            }
            let kind = node.value.kind();
            let Value::Table(table) = &mut node.value else {
                let why = format!("{kind} is there, not a table");
                return Err(ConfigError { origin, key: key.to_owned(), why });
            };
            // Environment variables are case-blind: BTCUSDT in the file is met by btcusdt.
            let known = table.keys().find(|k| k.eq_ignore_ascii_case(part)).cloned();
            node =
                table.entry(known.unwrap_or_else(|| part.to_owned())).or_insert_with(implied_table);
        }
        *node = Node { origin: origin.clone(), value: parse_value(text, &origin) };
        Ok(())
    }

    /// Every value as TOML text, by its dotted key.
    pub fn flat(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        flatten("", &self.root, &mut flat);
        flat
    }

    /// The root, for reading. Call [`Reader::finish`] at the end.
    pub fn reader(&self) -> (Reader, Section<'_>) {
        let section = Section { path: String::new(), node: Some(&self.root) };
        (Reader::default(), section)
    }
}

fn flatten(path: &str, node: &Node, flat: &mut BTreeMap<String, String>) {
    let Value::Table(table) = &node.value else {
        flat.insert(path.to_owned(), node.value.to_toml().to_string());
        return;
    };
    for (name, node) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        flatten(&key, node, flat);
    }
}

fn parse_value(text: &str, origin: &Origin) -> Value {
    let source = format!("v = {text}");
    let Ok(table) = DeTable::parse(&source) else { return Value::Text(text.to_owned()) };
    let only = (table.get_ref().len() == 1).then(|| table.get_ref().get("v")).flatten();
    let Some(value) = only else { return Value::Text(text.to_owned()) };
    let mut value = from_value("", &source, value.get_ref());
    if let Value::List(items) = &mut value {
        for item in items {
            item.origin = origin.clone();
        }
    }
    value
}

fn origin_at(path: &str, text: &str, span: Range<usize>) -> Origin {
    let before = text.get(..span.start).unwrap_or(text);
    Origin::File { path: path.to_owned(), line: before.matches('\n').count() + 1 }
}

fn from_table(path: &str, text: &str, table: &DeTable<'_>) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let origin = origin_at(path, text, key.span());
        let node = Node { origin, value: from_value(path, text, value.get_ref()) };
        (key.get_ref().to_string(), node)
    });
    Value::Table(entries.collect())
}

fn from_value(path: &str, text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(s) => Value::Text(s.to_string()),
        DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix())
            .map_or_else(|_| Value::Text(i.as_str().to_owned()), Value::Integer),
        DeValue::Float(x) => Value::Float(x.as_str().to_owned()),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    origin: origin_at(path, text, item.span()),
                    value: from_value(path, text, item.get_ref()),
                })
                .collect(),
        ),
        DeValue::Table(table) => from_table(path, text, table),
        DeValue::Datetime(_) => Value::Other,
    }
}

/// Collects what is wrong while sections are read, and which keys were asked for.
#[derive(Debug, Default)]
pub struct Reader {
    errors: Vec<ConfigError>,
    /// Every key that was asked for, by the path of its table.
    asked: BTreeMap<String, Vec<String>>,
}

/// One table of the tree; a table that was not written reads as empty.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    path: String,
    node: Option<&'a Node>,
}

impl<'a> Section<'a> {
    fn table(&self) -> Option<&'a BTreeMap<String, Node>> {
        match self.node.map(|n| &n.value) {
            Some(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The dotted path of this table.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the table was written at all.
    pub fn is_present(&self) -> bool {
        self.node.is_some()
    }
}

impl Reader {
    fn node<'a>(&mut self, section: &Section<'a>, name: &str) -> Option<&'a Node> {
        self.asked.entry(section.path.clone()).or_default().push(name.to_owned());
        section.table()?.get(name)
    }

    /// The table `name` below `section`.
    pub fn section<'a>(&mut self, section: &Section<'a>, name: &str) -> Section<'a> {
        let node = self.node(section, name);
        let path = section.key(name);
        if let Some(n) = node
            && !matches!(n.value, Value::Table(_))
        {
            let _: Option<()> = self.expected(n, &path, "a table");
        }
        Section { path, node }
    }

    /// Every table below `section`, by name. Values that are no tables are errors.
    pub fn sections<'a>(&mut self, section: &Section<'a>) -> Vec<(String, Section<'a>)> {
        let names: Vec<String> =
            section.table().map(|t| t.keys().cloned().collect()).unwrap_or_default();
        names.into_iter().map(|name| (name.clone(), self.section(section, &name))).collect()
    }

    /// The names of the tables below `section`, without reading them.
    pub fn table_names(&self, section: &Section<'_>) -> Vec<String> {
        let Some(table) = section.table() else { return Vec::new() };
        let tables = table.iter().filter(|(_, n)| matches!(n.value, Value::Table(_)));
        tables.map(|(name, _)| name.clone()).collect()
    }

    /// A text.
    pub fn text(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        let node = self.node(section, name)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.expected(node, &section.key(name), "text"),
        }
    }

    /// A text that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(section, name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.error(section, name, why);
                None
            }
        }
    }

    /// A decimal number: text (`"0.01"`) or a TOML number, kept as written.
    pub fn decimal(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        let node = self.node(section, name)?;
        match &node.value {
            Value::Text(text) | Value::Float(text) => Some(text.clone()),
            Value::Integer(i) => Some(i.to_string()),
            _ => self.expected(node, &section.key(name), "a decimal number"),
        }
    }

    /// An integer within `range`.
    pub fn integer(
        &mut self,
        section: &Section<'_>,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let node = self.node(section, name)?;
        let (min, max) = (range.start(), range.end());
        let expected = format!("an integer from {min} to {max}");
        match &node.value {
            Value::Integer(i) => match u64::try_from(*i) {
                Ok(value) if range.contains(&value) => Some(value),
                _ => {
                    self.error(section, name, format!("{i} is not {expected}"));
                    None
                }
            },
            _ => self.expected(node, &section.key(name), &expected),
        }
    }

    /// True or false.
    pub fn boolean(&mut self, section: &Section<'_>, name: &str) -> Option<bool> {
        let node = self.node(section, name)?;
        match node.value {
            Value::Bool(value) => Some(value),
            _ => self.expected(node, &section.key(name), "true or false"),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, section: &Section<'_>, name: &str) -> Option<Vec<String>> {
        let node = self.node(section, name)?;
        let Value::List(items) = &node.value else {
            return self.expected(node, &section.key(name), "a list of texts");
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) => texts.push(text.clone()),
                _ => return self.expected(item, &section.key(name), "a list of texts"),
            }
        }
        Some(texts)
    }

    /// Everything in `section` that was not asked for yet, as TOML, for a part that reads its own keys.
    pub fn others(&mut self, section: &Section<'_>) -> toml::Table {
        let asked = self.asked.entry(section.path.clone()).or_default();
        let mut others = toml::Table::new();
        for (name, node) in section.table().into_iter().flatten() {
            if !asked.contains(name) {
                asked.push(name.clone());
                others.insert(name.clone(), node.value.to_toml());
            }
        }
        others
    }

    /// Notes an error at `name` in `section`.
    pub fn error(&mut self, section: &Section<'_>, name: &str, why: impl Into<String>) {
        let origin = section.table().and_then(|t| t.get(name)).or(section.node);
        let origin = origin.map_or(Origin::Implied, |n| n.origin.clone());
        let key = if name.is_empty() { section.path.clone() } else { section.key(name) };
        self.errors.push(ConfigError { origin, key, why: why.into() });
    }

    fn expected<T>(&mut self, node: &Node, key: &str, what: &str) -> Option<T> {
        self.errors.push(ConfigError {
            origin: node.origin.clone(),
            key: key.to_owned(),
            why: format!("expected {what}, found {}", node.value.kind()),
        });
        None
    }

    /// Ends the reading: every key that was written and never asked for is an error, too.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the keys.
    pub fn finish(mut self, root: &Section<'_>) -> Result<(), Vec<ConfigError>> {
        if let Some(node) = root.node {
            self.unknown_keys("", node);
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn unknown_keys(&mut self, path: &str, node: &Node) {
        let Value::Table(table) = &node.value else { return };
        for (name, child) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let known = self.asked.get(path).map_or(&[][..], Vec::as_slice);
            if known.contains(name) {
                self.unknown_keys(&key, child);
                continue;
            }
            let mut why = "unknown key".to_owned();
            if let Some(near) = nearest(name, known) {
                why = format!("unknown key; did you mean `{near}`?");
            }
            self.errors.push(ConfigError { origin: child.origin.clone(), key, why });
        }
    }
}

/// The known word closest to `word`, if it is close enough to be a typing error.
pub fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let best = known.iter().map(|k| (edits(word, k), k.as_str())).min()?;
    (best.0 <= SUGGESTION_EDITS_MAX && best.0 < word.len().max(2)).then_some(best.1)
}

/// The Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str, read: impl FnOnce(&mut Reader, &Section<'_>)) -> Vec<String> {
        let tree = Tree::parse("t.toml", text).expect("valid TOML");
        let (mut reader, root) = tree.reader();
        read(&mut reader, &root);
        reader.finish(&root).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_named_with_line_and_suggestion() {
        let found = errors("mode = 1\n[ops]\nlistem = \"x\"\n", |r, root| {
            r.integer(root, "mode", 0..=1);
            let ops = r.section(root, "ops");
            r.text(&ops, "listen");
        });
        assert_eq!(found, ["t.toml:3: ops.listem: unknown key; did you mean `listen`?"]);
    }

    #[test]
    fn all_errors_come_at_once() {
        let found = errors("a = 1\nb = \"x\"\nc = 7\n", |r, root| {
            r.text(root, "a");
            r.boolean(root, "b");
            r.integer(root, "c", 0..=5);
        });
        assert_eq!(
            found,
            [
                "t.toml:1: a: expected text, found an integer",
                "t.toml:2: b: expected true or false, found text",
                "t.toml:3: c: 7 is not an integer from 0 to 5",
            ]
        );
    }

    #[test]
    fn the_command_line_wins_over_environment_and_file() {
        let mut tree =
            Tree::parse("t.toml", "[venue.b]\nurl = \"file\"\nn = 1\n").expect("valid TOML");
        tree.set_from_environment("PINDROP__VENUE__B__URL", "http://env").expect("a table");
        tree.set("venue.b.url=http://set").expect("a table");
        tree.set("venue.b.n=2").expect("a table");
        let (mut r, root) = tree.reader();
        let venue = r.section(&root, "venue");
        let b = r.section(&venue, "b");
        assert_eq!(r.text(&b, "url").as_deref(), Some("http://set"));
        assert_eq!(r.integer(&b, "n", 0..=9), Some(2));
        assert_eq!(r.finish(&root), Ok(()));
    }

    #[test]
    fn broken_toml_names_the_line() {
        let error = Tree::parse("t.toml", "a = 1\nb = = 2\n").expect_err("broken");
        assert!(error.to_string().starts_with("t.toml:2: not TOML"), "{error}");
    }

    #[test]
    fn a_set_without_equals_is_an_error() {
        let error = Tree::default().set("nonsense").expect_err("no equals sign");
        assert_eq!(error.to_string(), "--set: expected key=value, found \"nonsense\"");
    }
}

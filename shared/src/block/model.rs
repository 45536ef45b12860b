//! What both ends of a body in columns know after each record: sources, shapes of payloads, and what their numbers were. Owns
//! the order in which a record is said; the same code writes and reads it, so that both learn the same.
//!
//! A **source** is a publisher with a topic. A **template** is a form of key and a shape of payload, with a slot for each number
//! that is said: the first ones are the time at which a record was taken in and, where the publisher counts, its epoch and
//! number.

use alloc::string::String;
use alloc::vec::Vec;

use super::bits::{Flow, Torn};
use super::slots::{BIT, Past, Reach, Slot};
use super::text::{Digits, Part, Pattern, Token};
use super::words::Words;
use crate::limits::{COLUMN_BINARY_BYTES_MAX, COLUMN_PAYLOAD_BYTES_MAX, COLUMN_SLOTS_MAX, COLUMNS_MAX};
use crate::record::Kind;

/// The source whose records are the names of the others.
pub(super) const NAMES: usize = 0;

/// How the key of a record is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyForm {
    /// There is none: a name.
    Name,
    /// Epoch and number.
    Sequence,
    /// The digest of what is said anyway.
    Content,
    /// Another digest of the content, whole.
    OtherContent,
    /// The digest of a delivery, whole.
    Delivery,
    /// The same, of one that was sent again.
    Resent,
}

impl KeyForm {
    const ALL: [Self; 6] =
        [Self::Name, Self::Sequence, Self::Content, Self::OtherContent, Self::Delivery, Self::Resent];

    /// Slots before those of the payload.
    pub(super) const fn slots(self) -> usize {
        match self {
            Self::Sequence => 3,
            Self::Name | Self::Content | Self::OtherContent | Self::Delivery | Self::Resent => 1,
        }
    }

    const fn has_digest(self) -> bool {
        matches!(self, Self::OtherContent | Self::Delivery | Self::Resent)
    }
}

/// How a payload is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Text of a pattern: a slot a number and a word.
    Text(Pattern),
    /// So many bytes: a slot each.
    Bytes(usize),
    /// So many numbers in seven bits a byte (LEB128): a slot each.
    Numbers(usize),
    /// As it is: a slot for its length.
    Opaque,
}

impl Shape {
    fn slots(&self) -> usize {
        match self {
            Self::Text(pattern) => pattern.parts.len(),
            Self::Bytes(count) | Self::Numbers(count) => *count,
            Self::Opaque => 1,
        }
    }

    fn reach(&self, part: usize) -> Reach {
        match self {
            Self::Bytes(_) => Reach::Byte,
            Self::Text(pattern) if pattern.parts.get(part).is_some_and(|part| part.token == Token::Word) => Reach::Word,
            Self::Text(_) | Self::Numbers(_) | Self::Opaque => Reach::Long,
        }
    }
}

/// Average length of a miss beyond which bytes are noise: bytes that nothing is known of miss by seven bits.
const NOISE: i32 = 13 * BIT / 2;

/// A form of key and a shape of payload.
#[derive(Debug)]
pub(super) struct Template {
    /// How the key is said.
    pub(super) key: KeyForm,
    /// How the payload is said.
    pub(super) shape: Shape,
    slots: Vec<Slot>,
}

impl Template {
    /// Whether a payload that is nothing but bytes has shown that nothing can be known of them.
    pub(super) fn is_noise(&self) -> bool {
        let slots = self.slots.get(self.key.slots()..).unwrap_or_default();
        matches!(self.shape, Shape::Bytes(_)) && slots.iter().map(|slot| slot.missed() - NOISE).sum::<i32>() > 0
    }
}

/// A publisher with a topic.
#[derive(Debug)]
pub(super) struct Source {
    /// Of its records.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) publisher: String,
    /// Where it publishes.
    pub(super) topic: String,
    /// Template of its last record, and the one before that which was another.
    pub(super) templates: [Option<usize>; 2],
    /// Its last numbers by slot.
    pub(super) past: Vec<Past>,
    /// Whose record followed its last one.
    pub(super) next: usize,
}

impl Source {
    const fn new(kind: Kind, publisher: String, topic: String) -> Self {
        Self { kind, publisher, topic, templates: [None; 2], past: Vec::new(), next: 1 }
    }
}

/// A record, or a name, on its way: of a writer what is to be said, of a reader what was read.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// Whose: the number of sources where it is a new one.
    pub(super) source: usize,
    /// Which template: their number where it is a new one.
    pub(super) template: usize,
    /// The new template, of a writer.
    pub(super) fresh: Option<(KeyForm, Shape)>,
    /// What stands in the slots.
    pub(super) values: Vec<u64>,
    /// The digest, where it is said.
    pub(super) digest: [u8; 16],
    /// An opaque payload.
    pub(super) payload: Vec<u8>,
}

/// A new source's name on its way.
#[derive(Debug)]
pub(super) struct Name {
    /// Of its records.
    pub(super) kind: Kind,
    /// Its text: publisher and topic, one behind the other; the first slot is the length of the publisher.
    pub(super) item: Item,
}

/// All that both ends know.
#[derive(Debug)]
pub(super) struct Model {
    /// Sources; the first is [`NAMES`].
    pub(super) sources: Vec<Source>,
    /// Templates.
    pub(super) templates: Vec<Template>,
    /// Words.
    pub(super) words: Words,
    /// Whose the last record was.
    pub(super) previous: usize,
    /// The template of the last record of any source.
    recent: Option<usize>,
    columns: usize,
}

impl Model {
    /// Before the first record.
    pub(super) fn new() -> Self {
        Self {
            sources: alloc::vec![Source::new(Kind::Reading, String::new(), String::new())],
            templates: Vec::new(),
            words: Words::default(),
            previous: NAMES,
            recent: None,
            columns: 0,
        }
    }

    /// Like which the next payload of `source` probably is.
    pub(super) fn likely(&self, source: usize) -> Option<usize> {
        match self.sources.get(source) {
            Some(of) => of.templates[0].or(if source == NAMES { None } else { self.recent }),
            None => self.recent,
        }
    }

    /// Whether there is room for a payload of this shape from `source`, whose template is new or not.
    pub(super) fn has_room(&self, source: usize, key: KeyForm, shape: &Shape, is_new: bool) -> bool {
        let slots = key.slots() + shape.slots();
        let have = self.sources.get(source).map_or(0, |source| source.past.len());
        let more = if is_new { slots } else { 0 } + slots.saturating_sub(have);
        matches!(shape, Shape::Opaque) || self.columns + more <= COLUMNS_MAX
    }

    /// Writes or reads a record: `item` is what is to be said, or becomes what was read. `name` is that of a new source.
    pub(super) fn code(&mut self, flow: &mut impl Flow, item: &mut Item, name: Option<Name>) -> Result<(), Torn> {
        let next = self.sources[self.previous].next;
        let usual = self.sources.get(next).and_then(|source| source.templates[0]);
        if flow.flag(item.source == next && Some(item.template) == usual)? {
            (item.source, item.template) = (next, usual.ok_or(Torn)?);
        } else {
            item.source = flow.place(self.sources.len() + 1, item.source)?;
            if item.source == NAMES {
                return Err(Torn);
            }
            if item.source == self.sources.len() {
                self.code_name(flow, name)?;
            }
            self.code_template(flow, item)?;
        }
        self.code_values(flow, item)?;
        self.sources[self.previous].next = item.source;
        self.previous = item.source;
        self.recent = Some(item.template);
        Ok(())
    }

    fn code_name(&mut self, flow: &mut impl Flow, name: Option<Name>) -> Result<(), Torn> {
        let (kind, mut item) = name.map_or((Kind::Reading, Item::default()), |name| (name.kind, name.item));
        let kind = if flow.flag(kind == Kind::Gap)? { Kind::Gap } else { Kind::Reading };
        item.source = NAMES;
        self.code_template(flow, &mut item)?;
        self.code_values(flow, &mut item)?;
        let text = self.payload(&item, COLUMN_PAYLOAD_BYTES_MAX)?;
        let length = item
            .values
            .first()
            .copied()
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(Torn)?;
        let (publisher, topic) = text.split_at_checked(length).ok_or(Torn)?;
        let [publisher, topic] = [publisher, topic].map(|part| core::str::from_utf8(part).map(String::from));
        let source = Source::new(kind, publisher.map_err(|_| Torn)?, topic.map_err(|_| Torn)?);
        self.sources.push(source);
        Ok(())
    }

    fn code_template(&mut self, flow: &mut impl Flow, item: &mut Item) -> Result<(), Torn> {
        let likely = self.likely(item.source);
        if flow.flag(Some(item.template) == likely)? {
            item.template = likely.ok_or(Torn)?;
        } else {
            item.template = flow.place(self.templates.len() + 1, item.template)?;
        }
        if item.template == self.templates.len() {
            let (key, shape) = code_shape(flow, item.fresh.take())?;
            let count = key.slots() + shape.slots();
            let alike = likely
                .and_then(|likely| self.templates.get(likely))
                .filter(|likely| likely.key == key);
            let mut slots = Vec::with_capacity(count);
            slots.extend(alike.into_iter().flat_map(|alike| alike.slots.iter().take(count)).cloned());
            slots.resize(count, Slot::new(Reach::Long));
            for (nth, slot) in slots.iter_mut().enumerate() {
                slot.reach = nth.checked_sub(key.slots()).map_or(Reach::Long, |part| shape.reach(part));
            }
            if !self.has_room(item.source, key, &shape, true) {
                return Err(Torn);
            }
            self.columns += if shape == Shape::Opaque { 0 } else { count };
            self.templates.push(Template { key, shape, slots });
        }
        let is_name = self.templates[item.template].key == KeyForm::Name;
        if is_name == (item.source == NAMES) { Ok(()) } else { Err(Torn) }
    }

    fn code_values<F: Flow>(&mut self, flow: &mut F, item: &mut Item) -> Result<(), Torn> {
        let (Some(source), Some(template)) = (self.sources.get_mut(item.source), self.templates.get_mut(item.template))
        else {
            return Err(Torn);
        };
        let Template { key, shape, slots } = template;
        if source.past.len() < slots.len() {
            let have = source.past.len();
            self.columns += if *shape == Shape::Opaque { 0 } else { slots.len() - have };
            if self.columns > COLUMNS_MAX {
                return Err(Torn);
            }
            source.past.extend(slots[have..].iter().map(Slot::past));
        }
        if source.templates[0] != Some(item.template) {
            source.templates = [Some(item.template), source.templates[0]];
        }
        item.values.resize(slots.len(), 0);
        let (mut has_quiet, mut as_expected) = (false, true);
        for ((slot, value), past) in slots.iter().zip(&item.values).zip(&source.past) {
            if slot.is_quiet() {
                has_quiet = true;
                as_expected &= !F::WRITES || slot.expects(*value, *past);
            }
        }
        let as_expected = has_quiet && flow.flag(as_expected)?;
        for ((slot, value), past) in slots.iter_mut().zip(&mut item.values).zip(&mut source.past) {
            let is_known = as_expected && slot.is_quiet();
            *value = slot.code(flow, *value, past, is_known)?;
            if slot.reach == Reach::Word {
                self.words.code(flow, *value)?;
            }
        }
        if key.has_digest() {
            for part in item.digest.as_chunks_mut::<4>().0 {
                *part = (flow.bits(32, u64::from(u32::from_le_bytes(*part)))? as u32).to_le_bytes();
            }
        }
        if *shape == Shape::Opaque {
            let length = item.values.last().copied().unwrap_or(0);
            let given = core::mem::take(&mut item.payload);
            let length = usize::try_from(length).map_err(|_| Torn)?;
            flow.bytes(length, &given, &mut item.payload)?;
        }
        Ok(())
    }

    /// The payload of `item`, which is `most` bytes long at most.
    pub(super) fn payload(&self, item: &Item, most: usize) -> Result<Vec<u8>, Torn> {
        let mut payload = Vec::new();
        self.write_payload(item, &mut payload, most)?;
        Ok(payload)
    }

    /// Appends the payload of `item` to `into`, which is empty.
    pub(super) fn write_payload(&self, item: &Item, into: &mut Vec<u8>, most: usize) -> Result<(), Torn> {
        let template = self.templates.get(item.template).ok_or(Torn)?;
        let values = item.values.get(template.key.slots()..).ok_or(Torn)?;
        match &template.shape {
            Shape::Text(pattern) => pattern.put_together(values, &self.words, into, most).ok_or(Torn)?,
            Shape::Bytes(_) => into.extend(values.iter().map(|value| *value as u8)),
            Shape::Numbers(_) => values.iter().for_each(|value| write_leb128(*value, into)),
            Shape::Opaque => into.extend_from_slice(&item.payload),
        }
        if into.len() > most { Err(Torn) } else { Ok(()) }
    }
}

fn code_shape(flow: &mut impl Flow, given: Option<(KeyForm, Shape)>) -> Result<(KeyForm, Shape), Torn> {
    let (key, shape) = given.unwrap_or((KeyForm::Name, Shape::Opaque));
    let key = KeyForm::ALL[flow.place(KeyForm::ALL.len(), key as usize)?];
    let (tag, count) = match &shape {
        Shape::Text(pattern) => (0, pattern.parts.len()),
        Shape::Bytes(count) => (1, *count),
        Shape::Numbers(count) => (2, *count),
        Shape::Opaque => (3, 0),
    };
    let tag = flow.bits(2, tag)?;
    let count = usize::try_from(flow.number(4, count as u64)?).map_err(|_| Torn)?;
    let shape = match (tag, shape) {
        (0, Shape::Text(pattern)) => Shape::Text(code_pattern(flow, count, pattern)?),
        (0, _) => Shape::Text(code_pattern(flow, count, Pattern::default())?),
        (1, _) if count <= COLUMN_BINARY_BYTES_MAX => Shape::Bytes(count),
        (2, _) if count <= COLUMN_BINARY_BYTES_MAX => Shape::Numbers(count),
        (3, _) if count == 0 => Shape::Opaque,
        _ => return Err(Torn),
    };
    Ok((key, shape))
}

fn code_pattern(flow: &mut impl Flow, count: usize, given: Pattern) -> Result<Pattern, Torn> {
    if count > COLUMN_SLOTS_MAX {
        return Err(Torn);
    }
    let mut parts = Vec::with_capacity(count);
    for nth in 0..count {
        let part = given.parts.get(nth).copied().unwrap_or(Part { literal: 0, token: Token::Word });
        let literal = code_length(flow, part.literal)?;
        let token = if flow.flag(part.token == Token::Word)? {
            Token::Word
        } else {
            Token::Number(code_digits(flow, part.token)?)
        };
        parts.push(Part { literal, token });
    }
    let length = code_length(flow, given.literals.len())?;
    let mut literals = Vec::new();
    flow.bytes(length, &given.literals, &mut literals)?;
    Ok(Pattern { literals, parts })
}

fn code_length(flow: &mut impl Flow, length: usize) -> Result<usize, Torn> {
    let length = usize::try_from(flow.number(3, length as u64)?).map_err(|_| Torn)?;
    if length <= COLUMN_PAYLOAD_BYTES_MAX {
        Ok(length)
    } else {
        Err(Torn)
    }
}

fn code_digits(flow: &mut impl Flow, token: Token) -> Result<Digits, Torn> {
    let given = match token {
        Token::Number(digits) => digits,
        Token::Word => Digits { width: 1, least: 0, most: 0 },
    };
    let mut code = |value: u8| u8::try_from(flow.number(0, u64::from(value))?).map_err(|_| Torn);
    let digits = Digits { width: code(given.width)?, least: code(given.least)?, most: code(given.most)? };
    if digits.check() { Ok(digits) } else { Err(Torn) }
}

/// Appends `value`, seven bits a byte, the lowest first.
pub(super) fn write_leb128(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// The number at the front of `bytes`, and what is left.
pub(super) fn read_leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (nth, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if nth == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * nth);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[nth + 1..]));
        }
    }
    None
}

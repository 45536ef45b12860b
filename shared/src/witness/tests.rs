//! A witness's votes for several sites.

//! Every rule has a history that breaks just that rule; histories of a model of a server break none.

mod files;
mod histories;
mod model;
mod story;

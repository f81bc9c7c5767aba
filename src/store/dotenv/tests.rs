//! What only this store does.

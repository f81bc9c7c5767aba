//! The secrets of the layer: its manifest installed by the one code path there is for it.

use super::Error;
use crate::host::layer::Layer;

/// Installs the manifest of the share where the layer has one.
pub(super) fn install(layer: &Layer) -> Result<(), Error> {
    if layer.secrets {
        super::apply::warn("secrets: not installed by this build".to_owned());
    }
    Ok(())
}

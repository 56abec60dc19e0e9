//! Random histories against a model.

use super::StoreUnderTest;
use super::world::*;

pub async fn random_histories_agree_with_the_model<S: StoreUnderTest>() {
    let _world = World::<S>::new().await;
}

// Package informed holds the attackers who know that a checkpoint is sealed:
// they transform its weights before training, or instead of it, and need no
// key. Each is expected to succeed; the arena says so and reports what it cost.
//
// What may be transformed is read off the computation graph and off the gauge
// solution (which axis of which tensor a class of factors scales), never off
// tensor names, so that every family that package arch can build is attacked
// alike.
package informed

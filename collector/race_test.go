// SPDX-License-Identifier: Apache-2.0

//go:build race

package collector

// underRace: everything takes ten times as long, and counts may be smaller.
const underRace = true

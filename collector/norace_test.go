// SPDX-License-Identifier: Apache-2.0

//go:build !race

package collector

// underRace is for tests that count high.
const underRace = false

// SPDX-License-Identifier: Apache-2.0

// Package agentstest runs real agents under the real sheetbend, against a scripted model, and looks at the
// spans that a backend gets. It holds tests only. They need root, the binary in SHEETBEND_BIN and the agents in
// SHEETBEND_AGENTS, all of which `make test-agents` sees to.
package agentstest

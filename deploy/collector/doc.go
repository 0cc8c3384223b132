// SPDX-License-Identifier: Apache-2.0

// Package collector holds the values for a gateway of OpenTelemetry Collectors to what the collector's own code takes. It is a module of its
// own, for that code is large. It holds tests only.
package collector

// SPDX-License-Identifier: Apache-2.0

// Package containerstest runs real container runtimes under the real sheetbend, and looks at what its spans say of
// containers and pods. It holds tests only. They need root, containerd, runc, podman and a static busybox, and the
// binary in SHEETBEND_BIN: `make test-containers`.
package containerstest

// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed builtin.yaml
var builtin []byte

// Builtin gives the dialects that Sheetbend knows. The list is the caller's; what the dialects hold is not to be
// changed.
func Builtin() []Dialect { return slices.Clone(decoded()) }

var decoded = sync.OnceValue(func() (ds []Dialect) {
	d := yaml.NewDecoder(bytes.NewReader(builtin))
	d.KnownFields(true)
	if err := d.Decode(&ds); err != nil {
		panic(fmt.Sprintf("the built-in table of agents: %v", err)) // a test reads the same bytes
	}
	return ds
})

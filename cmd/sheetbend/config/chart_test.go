// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A schema is the part of one of JSON that says which keys there are.
type schema struct {
	Ref        string             `json:"$ref"`
	Properties map[string]*schema `json:"properties"`
	Items      *schema            `json:"items"`
	AnyOf      []*schema          `json:"anyOf"`
	Strict     *bool              `json:"additionalProperties"`
}

// sameKeys holds a schema that names its keys, or one below it, to the keys that the sensor reads.
func sameKeys(t *testing.T, at string, s *schema, of reflect.Type, defs map[string]*schema) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		s = defs[name]
	}
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	for _, other := range append(slices.Clone(s.AnyOf), s.Items) {
		if other != nil {
			sameKeys(t, at, other, of, defs)
		}
	}
	if s.Strict == nil || of.Kind() != reflect.Struct {
		return
	}
	known := fields(of)
	if got, want := slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(known)); !slices.Equal(got, want) {
		t.Errorf("%s: the chart has %v, the sensor %v", at, got, want)
	}
	for key, p := range s.Properties {
		if of, ok := known[key]; ok {
			sameKeys(t, join(at, key), p, of, defs)
		}
	}
}

// A key that the sensor knows can be set in the chart, and one that it does not know is refused there already.
func TestTheChartHasTheKeysOfTheSensor(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/helm/sheetbend/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	// Not all additionalProperties are booleans: of those of other schemas nothing is asked.
	var all struct {
		Properties struct{ Config json.RawMessage }
		Defs       map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var config schema
	if err := json.Unmarshal(all.Properties.Config, &config); err != nil || config.Strict == nil || *config.Strict {
		t.Fatalf("config is not strict: %v", err)
	}
	defs := map[string]*schema{}
	for name, text := range all.Defs {
		defs[name] = &schema{}
		if err := json.Unmarshal(text, defs[name]); err != nil {
			defs[name] = &schema{}
		}
	}
	if defs["endpoint"].Strict == nil {
		t.Fatal("endpoints are not strict")
	}
	sameKeys(t, "", &config, reflect.TypeFor[Config](), defs)
}

// What is in the ConfigMaps of deploy/testdata the sensor takes.
func TestTheSensorTakesWhatTheManifestsGiveIt(t *testing.T) {
	names, err := filepath.Glob("../../../deploy/testdata/*.golden.yaml")
	if err != nil || len(names) < 7 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		found := false
		for docs := yaml.NewDecoder(f); ; {
			var object struct {
				Kind string
				Data map[string]string
			}
			if err := docs.Decode(&object); err != nil {
				break
			}
			if object.Kind != "ConfigMap" {
				continue
			}
			found = true
			c, err := parse([]byte(object.Data["sheetbend.yaml"]))
			if err == nil {
				err = c.Validate()
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !found {
			t.Errorf("%s has no configuration", name)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// keysOfContract are contractKeys, each of which TestContractNames sees on a span, and those of keys.go, which
// TestContractIsDocumented holds to be among them.
func keysOfContract(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "span/keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys := slices.Clone(contractKeys)
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if key, err := strconv.Unquote(l.Value); err == nil && strings.HasPrefix(key, "sheetbend.") {
				keys = append(keys, key)
			}
		}
		return true
	})
	return keys
}

// texts are all strings in a JSON value, and the names of its fields.
func texts(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			all = append(all, texts(e)...)
		}
	case map[string]any:
		for name, e := range v {
			all = append(append(all, name), texts(e)...)
		}
	}
	return all
}

func readJSON(t *testing.T, name string) (v any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

var (
	inTraceQL  = regexp.MustCompile(`\bspan\.([a-z][a-z0-9_.]*)`)
	spanName   = regexp.MustCompile(`(^|[^.a-z])(name|rootName|span:name|trace:rootName)\s*(=|!=|=~|!~)`)
	pattern    = regexp.MustCompile(`span\.[a-z0-9_.]+ (?:=~|!~) "([^"]*)"`)
	eventValue = regexp.MustCompile(`sheetbend\.event(?:"\])? ?(?:==|=~|=) ?"?([a-z_.|]+)`)
)

// checkQuery holds what a query names to the contract: attributes that spans have, events that there are, and no names of
// spans, which are there to be read.
func checkQuery(t *testing.T, where, query string, keys []string) {
	t.Helper()
	for _, m := range inTraceQL.FindAllStringSubmatch(query, -1) {
		if !slices.Contains(keys, m[1]) {
			t.Errorf("%s: no span has %s: %s", where, m[1], query)
		}
	}
	if m := spanName.FindString(query); m != "" {
		t.Errorf("%s goes by the name of spans: %s", where, query)
	}
	for _, m := range pattern.FindAllStringSubmatch(query, -1) {
		if !strings.HasPrefix(m[1], "^") || !strings.HasSuffix(m[1], "$") {
			t.Errorf("%s: some engines find %q in any part of a value: %s", where, m[1], query)
		}
	}
	for _, m := range eventValue.FindAllStringSubmatch(query, -1) {
		for event := range strings.SplitSeq(m[1], "|") {
			if !slices.ContainsFunc(span.Kinds(), func(k span.Kind) bool { return k.String() == event }) {
				t.Errorf("%s: there is no event %q: %s", where, event, query)
			}
		}
	}
}

// The page for analysts has its twelve questions, each as a query, as a search and as a command, and all that it names is
// on spans.
func TestTheQuestionsOfAnalystsNameWhatSpansHave(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/analysts.md")
	if err != nil {
		t.Fatal(err)
	}
	page, keys := string(text), keysOfContract(t)
	questions := regexp.MustCompile(`(?m)^## (\d+)\. `).FindAllStringSubmatchIndex(page, -1)
	if len(questions) != 12 {
		t.Errorf("%d questions", len(questions))
	}
	for i, at := range questions {
		number, end := page[at[2]:at[3]], len(page)
		if i+1 < len(questions) {
			end = questions[i+1][0]
		}
		if number != strconv.Itoa(i+1) {
			t.Errorf("question %d has the number %s", i+1, number)
		}
		for _, how := range []string{"traceql", "jaeger", "sh"} {
			if !strings.Contains(page[at[0]:end], "\n```"+how+"\n") {
				t.Errorf("question %s has nothing for %s", number, how)
			}
		}
	}
	blocks := regexp.MustCompile("(?s)\n```(traceql|jaeger|sh)\n(.*?)```").FindAllStringSubmatch(page, -1)
	for _, block := range blocks {
		checkQuery(t, "docs/analysts.md", block[2], keys)
		var named [][]string
		switch block[1] {
		case "jaeger":
			named = regexp.MustCompile(`(?m)(?:^|\s)([a-z][a-z0-9_.]*)=`).FindAllStringSubmatch(block[2], -1)
		case "sh":
			named = regexp.MustCompile(`\.\["([^"]*)"\]`).FindAllStringSubmatch(block[2], -1)
		}
		for _, m := range named {
			if !slices.Contains(keys, m[1]) {
				t.Errorf("docs/analysts.md: no span has %s: %s", m[1], block[2])
			}
		}
	}
	for _, m := range regexp.MustCompile("`(sheetbend\\.[a-z_.]+)`").FindAllStringSubmatch(page, -1) {
		if !slices.Contains(keys, m[1]) {
			t.Errorf("docs/analysts.md: no span has %s", m[1])
		}
	}
}

// What is shipped for Grafana and Jaeger goes by attributes that spans have.
func TestDashboardsNameWhatSpansHave(t *testing.T) {
	t.Parallel()
	keys := keysOfContract(t)
	boards, err := filepath.Glob("../deploy/grafana/*.json")
	if err != nil || len(boards) != 3 {
		t.Fatal(boards, err)
	}
	for _, name := range boards {
		queries := 0
		for _, text := range texts(readJSON(t, name)) {
			checkQuery(t, name, text, keys)
			if strings.HasPrefix(text, "{ ") {
				queries++
			}
		}
		if queries < 5 {
			t.Errorf("%s has %d queries", name, queries)
		}
	}
	const ui = "../deploy/jaeger/ui.json"
	config, _ := readJSON(t, ui).(map[string]any)
	for _, prefix := range texts(config["topTagPrefixes"]) {
		foreign := prefix == "error" || prefix == "otel.status" // Jaeger's own
		if !foreign && !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, prefix) }) {
			t.Errorf("%s: no span has %s…", ui, prefix)
		}
	}
	links, _ := config["linkPatterns"].([]any)
	if len(links) == 0 {
		t.Errorf("%s has no links", ui)
	}
	for _, link := range links {
		fields, _ := link.(map[string]any)
		named := texts(fields["key"])
		for _, text := range texts(fields) {
			for _, m := range regexp.MustCompile(`#\{([^}]*)\}|%22([a-z_.]+)%22%3A`).FindAllStringSubmatch(text, -1) {
				named = append(named, m[1]+m[2])
			}
		}
		for _, key := range named {
			if !slices.Contains(keys, key) {
				t.Errorf("%s: no span has %s", ui, key)
			}
		}
	}
}

// Attributes of rules that hit are not for the sensor.
func TestNoKeyIsOfRules(t *testing.T) {
	t.Parallel()
	for _, key := range keysOfContract(t) {
		if strings.HasPrefix(key, "security_rule.") {
			t.Errorf("%s is reserved", key)
		}
	}
}

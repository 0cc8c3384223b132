// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Each board is one by Grafana's own schema, with every field of it, of its panels and of their queries known. Which data
// sources it asks, who uses it chooses.
func TestDashboardsAreOnesByTheSchemaOfGrafana(t *testing.T) {
	t.Parallel()
	plugins.RegisterDefaultPlugins()
	names, err := filepath.Glob("grafana/*.json")
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	uids := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var strict, board dashboard.Dashboard
		if err := strict.UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // it also gives one of no errors
			t.Errorf("%s: %v", name, err)
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatal(err)
		}
		if err := board.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if board.Uid == nil || uids[*board.Uid] != "" {
			t.Errorf("%s has no uid of its own", name)
		} else {
			uids[*board.Uid] = name
		}
		chosen := map[string]bool{}
		for _, v := range board.Templating.List {
			chosen["${"+v.Name+"}"] = true
		}
		var plain struct {
			Panels []struct {
				Title, Type string
				ID          int
				Datasource  struct{ UID string }
				GridPos     struct{ X, Y, W, H int }
				Targets     []struct {
					RefID, Query, Expr string
					Datasource         struct{ UID string }
				}
			}
		}
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		var seen []int
		for i, p := range plain.Panels {
			if p.Title == "" || slices.Contains(seen, p.ID) || len(p.Targets) == 0 || !chosen[p.Datasource.UID] {
				t.Errorf("%s: the panel %q (%d) of %q", name, p.Title, p.ID, p.Datasource.UID)
			}
			seen = append(seen, p.ID)
			for _, target := range p.Targets {
				if target.RefID == "" || target.Query+target.Expr == "" || target.Datasource.UID != p.Datasource.UID {
					t.Errorf("%s: the panel %q has the query %+v", name, p.Title, target)
				}
			}
			for _, q := range plain.Panels[:i] {
				a, b := p.GridPos, q.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || a.X+a.W > 24 {
					t.Errorf("%s: the panels %q and %q overlap", name, p.Title, q.Title)
				}
			}
		}
	}
}

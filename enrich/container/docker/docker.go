// SPDX-License-Identifier: Apache-2.0

// Package docker asks a container engine over the API of Docker, which Podman serves, too. It only ever reads.
package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

const (
	// maxAnswer bounds one answer: a list of all containers with their labels.
	maxAnswer = 16 << 20
	// maxEvent bounds one line of the event stream.
	maxEvent = 1 << 20
	// answerWithin bounds the questions of Watch; those of Find are bounded by its caller.
	answerWithin = 10 * time.Second
	// again is how far back a new connection asks for events.
	again = time.Minute
)

// Client is a container.Source.
type Client struct {
	socket string
	http   *http.Client

	mu      sync.Mutex
	runtime string // its name; "" while not known
}

// New makes a client of the engine that listens on a unix socket, to which dial connects (nil: as usual). It
// connects when it is used.
func New(socket string, dial func(ctx context.Context, path string) (net.Conn, error)) *Client {
	if dial == nil {
		dial = func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
		}
	}
	there := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, socket) }
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: there, MaxIdleConns: 8, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// String names the socket.
func (c *Client) String() string { return c.socket }

// Find implements container.Source.
func (c *Client) Find(ctx context.Context, id string) (record.Container, error) {
	name, err := c.name(ctx)
	if err != nil {
		return record.Container{}, err
	}
	var got struct {
		ID     string `json:"Id"`
		Name   string
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if err := c.get(ctx, "/containers/"+url.PathEscape(id)+"/json", &got); err != nil {
		return record.Container{}, err
	}
	if got.ID != id {
		return record.Container{}, container.ErrUnknown // it answered for a container whose name is the id of another
	}
	return containerOf(name, id, got.Name, got.Config.Image, got.Config.Labels), nil
}

// Watch implements container.Source.
func (c *Client) Watch(ctx context.Context, report func(record.Container)) error {
	c.mu.Lock()
	c.runtime = "" // another may listen there now
	c.mu.Unlock()
	name, err := c.name(ctx)
	if err != nil {
		return err
	}
	// The stream begins in the past, so that no container falls into the time when there was none.
	since := time.Now().Add(-again).Unix()
	// Podman's list waits for containers that are being started, and the events have to be read meanwhile.
	ctx, cancel := context.WithCancel(ctx)
	var listing sync.WaitGroup
	defer listing.Wait()
	defer cancel()
	// Without a list, containers are asked for one by one.
	listing.Go(func() { _ = c.list(ctx, name, report) })
	filters := url.QueryEscape(`{"type":["container"],"event":["create"]}`)
	events, err := c.open(ctx, fmt.Sprintf("/events?since=%d&filters=%s", since, filters))
	if err != nil {
		return err
	}
	defer events.Close()
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e struct {
			Type, Action string
			Actor        struct {
				ID         string
				Attributes map[string]string
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		if e.Type != "container" || e.Action != "create" {
			continue
		}
		// The attributes are the labels, and beside them these two.
		attrs := e.Actor.Attributes
		image, called := attrs["image"], attrs["name"]
		delete(attrs, "image")
		delete(attrs, "name")
		report(containerOf(name, e.Actor.ID, called, image, attrs))
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	return errors.New("the engine ended the stream of events")
}

func (c *Client) list(ctx context.Context, name string, report func(record.Container)) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var all []struct {
		ID     string `json:"Id"`
		Names  []string
		Image  string
		Labels map[string]string
	}
	if err := c.get(ctx, "/containers/json?all=1", &all); err != nil {
		return err
	}
	for _, got := range all {
		called := ""
		for _, n := range got.Names {
			// Further names are those that links give it: "/other/alias".
			if n = strings.TrimPrefix(n, "/"); called == "" && !strings.Contains(n, "/") {
				called = n
			}
		}
		report(containerOf(name, got.ID, called, got.Image, got.Labels))
	}
	return nil
}

// name is the engine's, as in container.runtime.name.
func (c *Client) name(ctx context.Context) (string, error) {
	c.mu.Lock()
	name := c.runtime
	c.mu.Unlock()
	if name != "" {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	// Podman takes seconds for /version while it starts containers; its head is on every answer.
	resp, err := c.ask(ctx, "/_ping")
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	name = container.Docker
	if resp.Header.Get("Libpod-API-Version") != "" {
		name = container.Podman
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runtime = name
	return name, nil
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	body, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}

func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := c.ask(ctx, path)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// ask asks without a version in the path: the engine answers in its own, and the fields read here are in all.
func (c *Client) ask(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, container.ErrUnknown
	}
	return nil, fmt.Errorf("%s: %s", path, resp.Status)
}

func containerOf(name, id, called, image string, labels map[string]string) record.Container {
	info := record.Container{
		ID: id, Runtime: name, Name: strings.TrimPrefix(called, "/"), Labels: container.Pairs(labels),
	}
	info.Image, info.Tag = container.Image(image)
	container.Pod(&info, labels)
	return info
}

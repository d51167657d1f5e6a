package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The loads of the v2 keys API: plain HTTP, one keep-alive connection per client.

type v2 struct {
	base string
	http *http.Client
}

// answerV2 is the part of an answer that the loads look at.
type answerV2 struct {
	Node struct {
		ModifiedIndex uint64    `json:"modifiedIndex"`
		Expiration    time.Time `json:"expiration"`
	} `json:"node"`
	ExpireCount int `json:"expireCount"`
}

func newV2(s *settings) *v2 {
	transport := &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 1 << 20, DisableCompression: true}
	return &v2{"http://" + s.endpoint, &http.Client{Transport: transport}}
}

func (v *v2) do(ctx context.Context, verb, target string, form url.Values, out *answerV2) error {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(ctx, verb, v.base+target, body)
	if err != nil {
		return err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := v.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", verb, target, answer.StatusCode, data)
	}
	if out != nil {
		return json.Unmarshal(data, out)
	}
	return nil
}

func (v *v2) set(ctx context.Context, key string, form url.Values, out *answerV2) error {
	return v.do(ctx, http.MethodPut, "/v2/keys/"+key, form, out)
}

// keyV2 spreads keys over 1,000 directories: one of 100,000 children suits nobody.
func keyV2(s *settings, i int) string { return fmt.Sprintf("bench/%03d/%s", i%1000, keyName(s, i)) }

func runV2Set(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	v, form := newV2(s), url.Values{"value": {value(s.valueBytes)}}
	return closedLoop(ctx, s, clients, func(ctx context.Context, _ *clientv3.Client, dice *rand.Rand) error {
		return v.set(ctx, keyV2(s, dice.Intn(s.keys)), form, nil)
	})
}

func (v *v2) fill(ctx context.Context, s *settings, clients []*clientv3.Client) error {
	form := url.Values{"value": {value(s.valueBytes)}}
	return parallel(s, clients, s.keys, func(_ *clientv3.Client, i int) error {
		return v.set(ctx, keyV2(s, i), form, nil)
	})
}

func runV2Get(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	return runV2Read(ctx, s, clients, "")
}

func runV2QuorumGet(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	return runV2Read(ctx, s, clients, "?quorum=true")
}

func runV2Read(ctx context.Context, s *settings, clients []*clientv3.Client, query string) (report, error) {
	v := newV2(s)
	if err := v.fill(ctx, s, clients); err != nil {
		return report{}, err
	}
	return closedLoop(ctx, s, clients, func(ctx context.Context, _ *clientv3.Client, dice *rand.Rand) error {
		return v.do(ctx, http.MethodGet, "/v2/keys/"+keyV2(s, dice.Intn(s.keys))+query, nil, nil)
	})
}

// runV2CAS swaps, per client, a key of its own; every swap expects the index of the one before.
func runV2CAS(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	v, text := newV2(s), value(s.valueBytes)
	var indexes sync.Map // a worker's dice to the index of its key
	return closedLoop(ctx, s, clients, func(ctx context.Context, _ *clientv3.Client, dice *rand.Rand) error {
		key := fmt.Sprintf("bench/cas/%p", dice)
		form := url.Values{"value": {text}}
		if known, found := indexes.Load(dice); found {
			form.Set("prevIndex", strconv.FormatUint(known.(uint64), 10))
		}
		var out answerV2
		if err := v.set(ctx, key, form, &out); err != nil {
			return err
		}
		indexes.Store(dice, out.Node.ModifiedIndex)
		return nil
	})
}

// runV2Wait lets s.watchers requests wait for one key, sets it, and measures from the set until the
// last has its answer; s.total times. An operation is one wake-up.
func runV2Wait(ctx context.Context, s *settings, _ []*clientv3.Client) (report, error) {
	v, rounds := newV2(s), max(s.total, 1)
	var busy time.Duration
	var all []uint32
	for round := 0; round < rounds; round++ {
		var out answerV2
		if err := v.set(ctx, "bench/wait", url.Values{"value": {"before"}}, &out); err != nil {
			return report{}, err
		}
		since := out.Node.ModifiedIndex + 1
		target := fmt.Sprintf("/v2/keys/bench/wait?wait=true&waitIndex=%d", since)
		ended := make([]time.Time, s.watchers)
		failures := make(chan error, s.watchers)
		var ready, woken sync.WaitGroup
		for i := range ended {
			ready.Add(1)
			woken.Add(1)
			go func() {
				defer woken.Done()
				answer, err := v.http.Get(v.base + target) // returns with the headers: it waits
				ready.Done()
				if err == nil {
					_, err = io.ReadAll(answer.Body)
					answer.Body.Close()
				}
				if err != nil {
					failures <- err
				}
				ended[i] = time.Now()
			}()
		}
		ready.Wait()
		began := time.Now()
		if err := v.set(ctx, "bench/wait", url.Values{"value": {"after"}}, nil); err != nil {
			return report{}, err
		}
		woken.Wait()
		busy += time.Since(began)
		select {
		case err := <-failures:
			return report{}, err
		default:
		}
		for _, end := range ended {
			all = append(all, uint32(end.Sub(began).Microseconds()))
		}
	}
	r := report{Ops: len(all), TotalOps: len(all), Seconds: busy.Seconds()}
	r.Rate = float64(r.Ops) / r.Seconds
	r.P50, r.P99, r.Max = percentiles(all)
	return r, nil
}

// runV2Expire sets s.keys keys that live s.limit seconds and looks when they go; latencies are how
// late the n-th to go was, against the n-th time at which one was due.
func runV2Expire(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	v := newV2(s)
	due := make([]time.Time, s.keys)
	form := url.Values{"value": {"x"}, "ttl": {strconv.Itoa(s.limit)}}
	var before answerV2
	if err := v.do(ctx, http.MethodGet, "/v2/stats/store", nil, &before); err != nil {
		return report{}, err
	}
	began := time.Now()
	err := parallel(s, clients, s.keys, func(_ *clientv3.Client, i int) error {
		var out answerV2
		err := v.set(ctx, keyV2(s, i), form, &out)
		due[i] = out.Node.Expiration
		return err
	})
	if err != nil {
		return report{}, err
	}
	sort.Slice(due, func(i, j int) bool { return due[i].Before(due[j]) })
	filled := time.Since(began)
	late := make([]uint32, 0, s.keys)
	for len(late) < s.keys {
		var now answerV2
		if err := v.do(ctx, http.MethodGet, "/v2/stats/store", nil, &now); err != nil {
			return report{}, err
		}
		at := time.Now()
		for gone := now.ExpireCount - before.ExpireCount; len(late) < gone && len(late) < s.keys; {
			late = append(late, uint32(max(at.Sub(due[len(late)]).Microseconds(), 0)))
		}
		if at.After(due[s.keys-1].Add(time.Minute)) {
			return report{}, fmt.Errorf("%d of %d keys are still there after a minute", s.keys-len(late), s.keys)
		}
		time.Sleep(20 * time.Millisecond)
	}
	r := report{Ops: s.keys, TotalOps: s.keys, Seconds: time.Since(began).Seconds()}
	r.Rate = float64(s.keys) / filled.Seconds()
	r.P50, r.P99, r.Max = percentiles(late)
	return r, nil
}

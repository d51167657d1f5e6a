package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// rolling is a load that knows every right answer, for servers that come and go meanwhile. Requests
// may fail, but whatever is answered must be true:
//
//   - a key that only one worker writes has its last acknowledged value, or one whose fate is unknown
//     (a put that was given up may be done much later, but once); revisions never go back;
//   - a counter that all workers raise by compare-and-put misses none and counts none twice;
//   - a watch over everything sees each revision once, in order, and every value at most once;
//   - a lease that is kept alive keeps its key.
const (
	rollingCallTimeout  = 10 * time.Second
	rollingFinalTimeout = 60 * time.Second
	rollingPause        = 2 * time.Millisecond // two cores are not to be filled by a test
	rollingLeaseTTL     = 20                   // seconds
	rollingCounterEvery = 5
)

var errWrong = errors.New("wrong answer")

func wrong(format string, values ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, values...))
}

// ledger is one worker's knowledge of its key and of its part of the counter.
type ledger struct {
	key          string
	acknowledged int          // the last value that was acknowledged, or seen since
	unknown      map[int]bool // values whose fate is not known: they may still come, each once
	next         int
	revision     int64
	raised       int // of the counter, acknowledged
	perhaps      int // of the counter, unknown
	operations   int
	failures     int
	err          error
}

func (l *ledger) seen(revision int64) error {
	if revision < l.revision {
		return wrong("%s: revision %d after %d", l.key, revision, l.revision)
	}
	l.revision = revision
	return nil
}

func (l *ledger) put(ctx context.Context, c *clientv3.Client) error {
	value := l.next
	l.next++
	answer, err := c.Put(ctx, l.key, strconv.Itoa(value))
	if err != nil {
		l.failures++
		l.unknown[value] = true
		return nil
	}
	if answer.Header.Revision == l.revision {
		return wrong("%s: a put at the revision %d that had been seen", l.key, l.revision)
	}
	l.acknowledged = value
	return l.seen(answer.Header.Revision)
}

func (l *ledger) get(ctx context.Context, c *clientv3.Client) error {
	answer, err := c.Get(ctx, l.key)
	if err != nil {
		l.failures++
		return nil
	}
	value := 0
	if len(answer.Kvs) > 0 {
		if value, err = strconv.Atoi(string(answer.Kvs[0].Value)); err != nil {
			return wrong("%s: %v", l.key, err)
		}
	}
	if value != l.acknowledged && !l.unknown[value] {
		return wrong("%s is %d, acknowledged %d, unknown %v", l.key, value, l.acknowledged, l.unknown)
	}
	l.acknowledged = value
	delete(l.unknown, value)
	return l.seen(answer.Header.Revision)
}

func (l *ledger) raise(ctx context.Context, c *clientv3.Client, counter string) error {
	answer, err := c.Get(ctx, counter)
	if err != nil {
		l.failures++
		return nil
	}
	count, revision := 0, int64(0)
	if len(answer.Kvs) > 0 {
		count, _ = strconv.Atoi(string(answer.Kvs[0].Value))
		revision = answer.Kvs[0].ModRevision
	}
	done, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(counter), "=", revision)).
		Then(clientv3.OpPut(counter, strconv.Itoa(count+1))).
		Commit()
	switch {
	case err != nil:
		l.failures++
		l.perhaps++
	case done.Succeeded:
		l.raised++
	}
	return nil
}

// run works until ctx is done; single requests are allowed to finish.
func (l *ledger) run(ctx context.Context, c *clientv3.Client, counter string, dice *rand.Rand) {
	for ctx.Err() == nil && l.err == nil {
		call, cancel := context.WithTimeout(context.Background(), rollingCallTimeout)
		switch n := dice.Intn(2 * rollingCounterEvery); {
		case n < 2:
			l.err = l.raise(call, c, counter)
		case n%2 == 0:
			l.err = l.put(call, c)
		default:
			l.err = l.get(call, c)
		}
		cancel()
		l.operations++
		time.Sleep(rollingPause)
	}
}

// observer is what a watch over the whole prefix has told.
type observer struct {
	revision int64
	events   int
	values   map[string]bool // "key value", each at most once
	err      error
}

// watch follows every change of the prefix until the key that says "end" is written.
func (o *observer) watch(ctx context.Context, c *clientv3.Client, s *settings, from int64) {
	o.revision = from - 1
	for answer := range c.Watch(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if err := answer.Err(); err != nil {
			o.err = fmt.Errorf("watch: %w", err)
			return
		}
		for _, event := range answer.Events {
			name := string(event.Kv.Key) + " " + string(event.Kv.Value)
			if event.Kv.ModRevision != o.revision+1 || o.values[name] {
				o.err = wrong("watch: %s at revision %d after %d", name, event.Kv.ModRevision, o.revision)
				return
			}
			o.revision, o.values[name] = event.Kv.ModRevision, true
			o.events++
			if string(event.Kv.Key) == s.prefix+"/end" {
				return
			}
		}
	}
	o.err = fmt.Errorf("watch ended after revision %d", o.revision)
}

// persist repeats a call of the load's own beginning or end until it is answered: the client does not
// repeat writes by itself, and a member that is just being stopped may refuse one.
func persist(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// keepLease holds a key by a lease; the lease must not end while it is kept.
func keepLease(ctx context.Context, c *clientv3.Client, key string) (clientv3.LeaseID, error) {
	var granted *clientv3.LeaseGrantResponse
	if err := persist(ctx, func() (err error) {
		granted, err = c.Grant(ctx, rollingLeaseTTL)
		return err
	}); err != nil {
		return 0, err
	}
	if err := persist(ctx, func() error {
		_, err := c.Put(ctx, key, "kept", clientv3.WithLease(granted.ID))
		return err
	}); err != nil {
		return 0, err
	}
	answers, err := c.KeepAlive(ctx, granted.ID)
	if err != nil {
		return 0, err
	}
	go func() {
		for range answers { // read, so that the client goes on
		}
	}()
	return granted.ID, nil
}

func runRolling(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	ledgers := make([]ledger, s.clients)
	counter, leased := s.prefix+"/counter", s.prefix+"/leased"
	if _, err := keepLease(ctx, clients[0], leased); err != nil {
		return report{}, err
	}
	now, err := clients[0].Get(ctx, leased)
	if err != nil {
		return report{}, err
	}
	watched := observer{values: map[string]bool{}}
	watching, endWatch := context.WithCancel(ctx)
	defer endWatch()
	watchDone := make(chan struct{})
	go func() {
		defer close(watchDone)
		watched.watch(watching, clients[0], s, now.Header.Revision+1)
	}()
	began := time.Now()
	window, cancel := context.WithTimeout(ctx, time.Duration(s.seconds*float64(time.Second)))
	defer cancel()
	var workers sync.WaitGroup
	for i := range ledgers {
		ledgers[i] = ledger{key: fmt.Sprintf("%s/own/%d", s.prefix, i), unknown: map[int]bool{}, next: 1}
		workers.Add(1)
		go func() {
			defer workers.Done()
			ledgers[i].run(window, clients[i%len(clients)], counter, rand.New(rand.NewSource(int64(i))))
		}()
	}
	workers.Wait()
	took := time.Since(began)
	final, cancelFinal := context.WithTimeout(ctx, rollingFinalTimeout)
	defer cancelFinal()
	if err := finish(final, s, clients[0], ledgers, counter, leased); err != nil {
		return report{}, err
	}
	select {
	case <-watchDone:
	case <-final.Done():
		return report{}, fmt.Errorf("the watch stopped at revision %d", watched.revision)
	}
	if watched.err != nil {
		return report{}, watched.err
	}
	return rollingReport(ledgers, &watched, took), nil
}

// finish compares what is there in the end with what everybody knows.
func finish(ctx context.Context, s *settings, c *clientv3.Client, ledgers []ledger, counter, leased string) error {
	raised, perhaps := 0, 0
	for i := range ledgers {
		l := &ledgers[i]
		if l.err != nil {
			return l.err
		}
		before := l.failures
		if err := l.get(ctx, c); err != nil {
			return err
		}
		if l.failures > before {
			return fmt.Errorf("%s cannot be read in the end", l.key)
		}
		raised, perhaps = raised+l.raised, perhaps+l.perhaps
	}
	answer, err := c.Get(ctx, s.prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	found := map[string]string{}
	for _, pair := range answer.Kvs {
		found[string(pair.Key)] = string(pair.Value)
	}
	if found[leased] != "kept" {
		return wrong("a lease that was kept alive is gone")
	}
	count, _ := strconv.Atoi(strings.TrimSpace(found[counter]))
	if count < raised || count > raised+perhaps {
		return wrong("counted %d, acknowledged %d, unknown %d", count, raised, perhaps)
	}
	return persist(ctx, func() error {
		_, err := c.Put(ctx, s.prefix+"/end", "end")
		return err
	})
}

func rollingReport(ledgers []ledger, watched *observer, took time.Duration) report {
	r := report{Seconds: took.Seconds(), Extra: map[string]float64{"events": float64(watched.events)}}
	for i := range ledgers {
		r.Ops += ledgers[i].operations
		r.Extra["failed"] += float64(ledgers[i].failures)
		r.Extra["raised"] += float64(ledgers[i].raised)
	}
	r.TotalOps = r.Ops
	r.Rate = float64(r.Ops) / r.Seconds
	return r
}

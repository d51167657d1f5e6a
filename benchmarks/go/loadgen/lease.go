package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const leaseTTLSeconds = 600

// runLeaseKeepAlive grants s.keys leases and renews them round and round, one stream per
// connection, s.clients requests in flight in all.
func runLeaseKeepAlive(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	ids := make([]int64, s.keys)
	if err := parallel(s, clients, s.keys, func(c *clientv3.Client, i int) error {
		granted, err := c.Grant(ctx, leaseTTLSeconds)
		if err == nil {
			ids[i] = int64(granted.ID)
		}
		return err
	}); err != nil {
		return report{}, err
	}
	var measuring, stop atomic.Bool
	samples := make([]sample, len(clients))
	var streams sync.WaitGroup
	window := max(s.clients/len(clients), 1)
	for i, c := range clients {
		streams.Add(1)
		go func() {
			defer streams.Done()
			if err := renew(ctx, c, ids[i*len(ids)/len(clients):(i+1)*len(ids)/len(clients)], window, &samples[i], &measuring, &stop); err != nil {
				samples[i].failed++
				samples[i].first = err
			}
		}()
	}
	time.Sleep(time.Duration(s.warmup * float64(time.Second)))
	measuring.Store(true)
	began := time.Now()
	time.Sleep(time.Duration(s.seconds * float64(time.Second)))
	stop.Store(true)
	took := time.Since(began)
	streams.Wait()
	return summarize(samples, took), nil
}

// renew keeps window renewals of one stream unanswered; answers come in the order of requests.
func renew(ctx context.Context, c *clientv3.Client, ids []int64, window int, mine *sample, measuring, stop *atomic.Bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	sent := make([]time.Time, 0, window)
	next := 0
	send := func() error {
		sent = append(sent, time.Now())
		next++
		return stream.Send(&pb.LeaseKeepAliveRequest{ID: ids[(next-1)%len(ids)]})
	}
	for range window {
		if err := send(); err != nil {
			return err
		}
	}
	for !stop.Load() {
		counted := measuring.Load()
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if answer.TTL != leaseTTLSeconds {
			return fmt.Errorf("lease %x has TTL %d", answer.ID, answer.TTL)
		}
		if counted {
			mine.latencies = append(mine.latencies, uint32(time.Since(sent[0]).Microseconds()))
		} else {
			mine.before++
		}
		sent = append(sent[:0], sent[1:]...)
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

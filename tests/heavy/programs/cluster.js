// cluster.js PORT rr|none: an HTTP server of four processes.
//
// rr: the first process accepts and passes each connection on; none: each accepts.
const cluster = require('node:cluster');
const http = require('node:http');

const [, , port, policy] = process.argv;
const WORKERS = 4;
cluster.schedulingPolicy = policy === 'rr' ? cluster.SCHED_RR : cluster.SCHED_NONE;

if (cluster.isPrimary) {
  let ready = 0;
  for (let n = 0; n < WORKERS; n += 1) cluster.fork();
  cluster.on('listening', () => {
    ready += 1;
    if (ready === WORKERS) console.log('ready');
  });
} else {
  const pid = String(process.pid).padStart(8, '0');
  http.createServer((request, response) => {
    response.end(`hello from ${pid}\n`);
  }).listen({ port: Number(port), host: '::', backlog: 1024 });
}

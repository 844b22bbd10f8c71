# threads.rb PORT: four threads that accept from one listener, blocking.
require 'socket'

listener = TCPServer.new('::', ARGV[0].to_i)
listener.listen(1024)
threads = 4.times.map do |number|
  body = format("hello from %08d\n", number)
  Thread.new do
    loop do
      client = listener.accept
      nil until [nil, "\r\n"].include?(client.gets)
      client.write("HTTP/1.0 200 OK\r\nContent-Length: #{body.size}\r\n\r\n#{body}")
    rescue SystemCallError
      # The client has gone.
    ensure
      client&.close
    end
  end
end
$stdout.sync = true
puts 'ready'
threads.each(&:join)

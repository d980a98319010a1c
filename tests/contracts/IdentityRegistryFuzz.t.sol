// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {ForgeTest} from "./Forge.sol";

/// @title Single calls of IdentityRegistry with random values
contract IdentityRegistryFuzz is ForgeTest {
    bytes16 private constant ADMIN = bytes16(uint128(0xAD));
    address private constant ADMIN_ACCOUNT = address(0xAD);

    /// @dev The prime of the field of P-256.
    uint256 private constant PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF;

    IIdentityRegistry private _registry;

    function setUp() external {
        vm.warp(1_700_000_000);
        _registry = IIdentityRegistry(
            _deploy("IdentityRegistry", abi.encode(address(this)))
        );
        _registry.enrol(_enrolment(ADMIN, IIdentityRegistry.Kind.Administrator, ADMIN_ACCOUNT));
    }

    function testFuzz_I1_anyValuesAreReadAsTheyWereEnrolled(
        bytes16 uuid,
        address account,
        bytes32[3] calldata keys,
        uint64 numbers,
        uint40 time
    ) external {
        vm.assume(uuid != 0 && uuid != ADMIN && account != ADMIN_ACCOUNT);
        vm.warp(_pick(time, 1, type(uint40).max));
        vm.roll(uint32(numbers >> 32));
        IIdentityRegistry.Enrolment memory item;
        (item.uuid, item.kind) = (uuid, IIdentityRegistry.Kind(1 + (numbers % 7)));
        (item.account, item.virtualIp) = (account, uint32(numbers));
        (item.keyKind, item.key) = (IIdentityRegistry.KeyKind.Ed25519, abi.encode(keys[0]));
        (item.logKey, item.tunnelKey) = (keys[1], keys[2]);
        _registry.enrol(item);
        IIdentityRegistry.Identity memory found = _registry.identity(uuid);
        require(found.uuid == uuid && found.kind == item.kind && found.account == account, "I1: who");
        require(found.keyKind == item.keyKind && keccak256(found.key) == keccak256(item.key), "I1: key");
        require(found.logKey == keys[1] && found.tunnelKey == keys[2], "I1: keys");
        require(found.virtualIp == item.virtualIp && found.since == block.timestamp, "I1: IP or time");
        require(found.fromBlock == uint32(numbers >> 32) && found.previous == ADMIN, "I1: place");
        require(!found.banned && found.bannedAt == 0 && !found.retired, "I1: state");
    }

    function testFuzz_I3_aVirtualIpIsGivenOnce(uint32 one, uint32 two) external {
        if (one % 4 == 0) two = one;
        if (one % 4 == 1) two = one ^ 1; // its neighbour
        _registry.enrol(_withIp(1, one));
        bytes memory refusal;
        if (one == two && one != 0) refusal = abi.encodeWithSelector(IIdentityRegistry.VirtualIpTaken.selector, one);
        bytes memory call = abi.encodeCall(_registry.enrol, (_withIp(2, two)));
        _expect(address(this), address(_registry), call, refusal);
    }

    function testFuzz_I4_aP256KeyIsAPointOnTheCurve(uint256 secret, uint256 place, bool wrong) external {
        (uint256 x, uint256 y) = vm.publicKeyP256(_pick(secret, 1, type(uint224).max));
        bytes memory key = abi.encode(x, y);
        if (wrong) key[place % 64] ^= bytes1(uint8(1 << ((place / 64) % 8)));
        _expectKey(IIdentityRegistry.KeyKind.P256, key, !wrong);
        if (wrong) return;
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(x, PRIME - y), true);
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(y, x), false);
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encodePacked(key, uint8(0)), false);
    }

    /// @notice Points with x = 0 and with y = 5, whose coordinates could also be written above the prime.
    function test_aCoordinateIsBelowThePrime() external {
        uint256 y = 0x66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4;
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(uint256(0), y), true);
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(PRIME, y), false);
        uint256 x = 0xd7325d7646cd60d80a92738ceb345f844cffaf35841022cab176f692de8de1d7;
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(x, uint256(5)), true);
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(x, PRIME + 5), false);
        _expectKey(IIdentityRegistry.KeyKind.P256, abi.encode(uint256(0), uint256(0)), false);
    }

    function testFuzz_I4_anRsaKeyIsCanonicalAndLong(uint256 seed, uint256 place, uint8 change) external {
        bytes memory key = _rsaKey(seed % 3, seed);
        place = place % key.length;
        bool modulus = place > 32 && place < key.length - 5;
        key[place] ^= bytes1(change);
        bool good = change == 0 || modulus;
        good = good && uint8(key[33]) >= 0x80 && uint8(key[key.length - 6]) % 2 == 1;
        _expectKey(IIdentityRegistry.KeyKind.Rsa, key, good);
        _expectKey(IIdentityRegistry.KeyKind.Rsa, abi.encodePacked(key, uint8(1)), false);
    }

    function testFuzz_I4_anotherKindOrLengthIsRefused(bytes memory key, uint8 kind) external {
        kind %= 4;
        bool good = kind == 2 && key.length == 32;
        _expectKey(IIdentityRegistry.KeyKind(kind), key, good);
        _expectKey(IIdentityRegistry.KeyKind.None, abi.encode(keccak256(key)), false);
    }

    function testFuzz_I5_anyOtherAccountIsRefused(address account, bytes16 uuid) external {
        vm.assume(account != address(this) && account != address(0)); // 0 is the pending owner
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, account);
        address target = address(_registry);
        IIdentityRegistry.Enrolment[] memory list = new IIdentityRegistry.Enrolment[](1);
        list[0] = _enrolment(uuid, IIdentityRegistry.Kind.Fog, account);
        _expect(account, target, abi.encodeCall(_registry.enrol, (list[0])), refusal);
        _expect(account, target, abi.encodeCall(_registry.enrolAll, (list)), refusal);
        bytes memory call = abi.encodeCall(
            _registry.rotate,
            (ADMIN, account, IIdentityRegistry.KeyKind.Ed25519, list[0].key, 0, 0)
        );
        _expect(account, target, call, refusal);
        _expect(account, target, abi.encodeCall(_registry.unban, (ADMIN)), refusal);
        _expect(account, target, abi.encodeCall(_registry.retire, (ADMIN)), refusal);
        _expect(account, target, abi.encodeCall(Ownable2Step.transferOwnership, (account)), refusal);
        _expect(account, target, abi.encodeCall(Ownable2Step.acceptOwnership, ()), refusal);
        refusal = abi.encodeWithSelector(IIdentityRegistry.RenouncingRefused.selector);
        _expect(account, target, abi.encodeCall(Ownable.renounceOwnership, ()), refusal);
        _expect(address(this), target, abi.encodeCall(Ownable.renounceOwnership, ()), refusal);
    }

    function testFuzz_I6_anAdministratorBansTenWithinAnHour(uint16[16] calldata gaps) external {
        uint40[16] memory times;
        uint256 done = 0;
        for (uint256 i = 0; i < gaps.length; ++i) {
            bytes16 uuid = bytes16(uint128(i + 1));
            _registry.enrol(_enrolment(uuid, IIdentityRegistry.Kind.Technician, address(0)));
            vm.warp(block.timestamp + _pick(gaps[i], 0, 600));
            bytes memory refusal;
            if (done >= 10 && times[done - 10] + 1 hours > block.timestamp) {
                uint40 free = times[done - 10] + 1 hours;
                refusal = abi.encodeWithSelector(IIdentityRegistry.TooManyBans.selector, ADMIN, free);
            } else {
                times[done++] = uint40(block.timestamp);
            }
            _expect(ADMIN_ACCOUNT, address(_registry), abi.encodeCall(_registry.ban, (uuid, "x")), refusal);
            if (refusal.length != 0) _registry.ban(uuid, "x"); // the owner has no limit
        }
    }

    function testFuzz_I6_onlyAdministratorsBan(address account, uint8 kind) external {
        vm.assume(account != address(this) && account != ADMIN_ACCOUNT && account != address(0));
        kind = uint8(_pick(kind, 1, 7));
        _registry.enrol(_enrolment(bytes16(uint128(1)), IIdentityRegistry.Kind(kind), account));
        _registry.enrol(_enrolment(bytes16(uint128(2)), IIdentityRegistry.Kind.Gateway, address(0)));
        bytes memory refusal;
        if (kind != 3) refusal = abi.encodeWithSelector(IIdentityRegistry.BanningNotAllowed.selector, account);
        bytes memory call = abi.encodeCall(_registry.ban, (bytes16(uint128(2)), "x"));
        _expect(account, address(_registry), call, refusal);
        if (kind != 3) return;
        refusal = abi.encodeWithSelector(IIdentityRegistry.AdministratorProtected.selector, ADMIN);
        _expect(account, address(_registry), abi.encodeCall(_registry.ban, (ADMIN, "x")), refusal);
    }

    /// @notice The ban ends only once; its time stays, and a retired identity never changes.
    function test_aBanEndsOnceAndRetirementIsFinal() external {
        address target = address(_registry);
        bytes memory refusal = abi.encodeWithSelector(IIdentityRegistry.IdentityNotBanned.selector, ADMIN);
        _expect(address(this), target, abi.encodeCall(_registry.unban, (ADMIN)), refusal);
        _registry.ban(ADMIN, "x");
        _registry.unban(ADMIN);
        _expect(address(this), target, abi.encodeCall(_registry.unban, (ADMIN)), refusal);
        require(_registry.bannedAt(ADMIN) == block.timestamp, "time");
        _registry.retire(ADMIN);
        refusal = abi.encodeWithSelector(IIdentityRegistry.IdentityIsRetired.selector, ADMIN);
        _expect(address(this), target, abi.encodeCall(_registry.unban, (ADMIN)), refusal);
        _expect(address(this), target, abi.encodeCall(_registry.retire, (ADMIN)), refusal);
    }

    function testFuzz_I10_pagesOfAnyKindAreAnswered(bytes16 from, uint256 count) external view {
        bool known = (from == 0 || from == ADMIN) && count != 0;
        require(_registry.identities(from, count).length == (known ? 1 : 0), "I10");
    }

    function testFuzz_I11_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_registry).call{value: amount}("");
        require(!done, "I11: without data");
        bytes[2] memory calls = [data, abi.encodeCall(_registry.ban, (ADMIN, "x"))];
        for (uint256 i = 0; i < 2 && amount != 0; ++i) {
            (done, ) = address(_registry).call{value: amount}(calls[i]);
            require(!done && address(_registry).balance == 0, "I11");
        }
    }

    function _expectKey(IIdentityRegistry.KeyKind kind, bytes memory key, bool good) private {
        IIdentityRegistry.Enrolment memory item;
        item.uuid = bytes16(keccak256(abi.encode(kind, key)));
        (item.kind, item.keyKind, item.key) = (IIdentityRegistry.Kind.Gateway, kind, key);
        bytes memory refusal;
        bytes4 selector = IIdentityRegistry.KeyInvalid.selector;
        if (!good) refusal = abi.encodeWithSelector(selector, item.uuid, kind, key.length);
        _expect(address(this), address(_registry), abi.encodeCall(_registry.enrol, (item)), refusal);
        require(keccak256(_registry.identity(item.uuid).key) == keccak256(good ? key : bytes("")), "I4: key");
    }

    function _enrolment(
        bytes16 uuid,
        IIdentityRegistry.Kind kind,
        address account
    ) private pure returns (IIdentityRegistry.Enrolment memory item) {
        (item.uuid, item.kind, item.account) = (uuid, kind, account);
        (item.keyKind, item.key) = (IIdentityRegistry.KeyKind.Ed25519, abi.encode(keccak256(abi.encode(uuid))));
    }

    function _withIp(uint128 number, uint32 ip) private pure returns (IIdentityRegistry.Enrolment memory item) {
        item = _enrolment(bytes16(number), IIdentityRegistry.Kind.Gateway, address(0));
        item.virtualIp = ip;
    }

    /// @dev Returns a DER key of 2,048, 3,072 or 4,096 bits with random bytes as its modulus.
    function _rsaKey(uint256 size, uint256 seed) private pure returns (bytes memory key) {
        bytes memory head = hex"30820122300d06092a864886f70d01010105000382010f003082010a0282010100";
        if (size == 1) head = hex"308201a2300d06092a864886f70d01010105000382018f003082018a0282018100";
        if (size == 2) head = hex"30820222300d06092a864886f70d01010105000382020f003082020a0282020100";
        key = head;
        for (uint256 i = 0; i < 8 + 4 * size; ++i) key = abi.encodePacked(key, keccak256(abi.encode(seed, i)));
        (key[33], key[key.length - 1]) = (key[33] | bytes1(uint8(0x80)), key[key.length - 1] | bytes1(uint8(1)));
        return abi.encodePacked(key, hex"0203010001");
    }
}
